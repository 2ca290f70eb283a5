// An independent check of a Ringi audit log with Go's golang.org/x/mod/sumdb/{note,tlog}, the code behind sum.golang.org: none of it is ours.
// It reads an exported bundle, and where -url is given the served tiles, entries and checkpoint too. Exit code 1: refused.
package main

import (
	"archive/zip"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func check(err error, about string) {
	if err != nil {
		refuse(about + ": " + err.Error())
	}
}

func refuse(why string) {
	fmt.Println("REFUSED: " + why)
	os.Exit(1)
}

// cosigner verifies C2SP cosignature/v1 lines, of which x/mod knows nothing: u64 time, then Ed25519 over a header, the time and the text.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func newCosigner(vkey string) cosigner {
	part := strings.SplitN(vkey, "+", 3)
	data, err := base64.StdEncoding.DecodeString(part[2])
	check(err, "witness key")
	if len(data) != 33 || data[0] != 4 {
		refuse("the witness key is not of type 0x04")
	}
	id := sha256.Sum256(append([]byte(part[0]+"\n"), data...))
	return cosigner{part[0], binary.BigEndian.Uint32(id[:4]), data[1:]}
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(text, sig []byte) bool {
	if len(sig) != 72 {
		return false
	}
	said := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig[:8]), text)
	return ed25519.Verify(c.key, []byte(said), sig[8:])
}

// opened returns the tree of a checkpoint that every key has signed.
func opened(text []byte, keys ...note.Verifier) tlog.Tree {
	n, err := note.Open(text, note.VerifierList(keys...))
	check(err, "checkpoint")
	if len(n.Sigs) != len(keys) {
		refuse(fmt.Sprintf("%d of %d keys signed the checkpoint", len(n.Sigs), len(keys)))
	}
	line := strings.Split(n.Text, "\n")
	if len(line) != 4 || line[0] != keys[0].Name() {
		refuse("the checkpoint is not this log's")
	}
	size, err := strconv.ParseInt(line[1], 10, 64)
	check(err, "size")
	root, err := tlog.ParseHash(line[2])
	check(err, "root")
	return tlog.Tree{N: size, Hash: root}
}

// stored keeps every hash of the tree as tlog numbers them.
type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		if at >= int64(len(s)) {
			return nil, fmt.Errorf("no hash %d", at)
		}
		found[i] = s[at]
	}
	return found, nil
}

// replayed rebuilds the tree from entries (a withheld one counts with its leaf) and compares every stored leaf and node.
func replayed(entries, leaves, nodes []byte, size int64) stored {
	var tree stored
	for n := int64(0); n < size; n++ {
		if len(entries) < 2 || len(leaves) < 32 {
			refuse(fmt.Sprintf("entry %d is missing", n))
		}
		length := 2 + int(binary.BigEndian.Uint16(entries))
		var leaf tlog.Hash
		copy(leaf[:], leaves)
		if length > 2 && tlog.RecordHash(entries[2:length]) != leaf {
			refuse(fmt.Sprintf("entry %d was changed", n))
		}
		made, err := tlog.StoredHashesForRecordHash(n, leaf, tree)
		check(err, "tree")
		for _, node := range made[1:] {
			if len(nodes) < 32 || !bytes.Equal(node[:], nodes[:32]) {
				refuse(fmt.Sprintf("a node completed by entry %d was changed", n))
			}
			nodes = nodes[32:]
		}
		tree, entries, leaves = append(tree, made...), entries[length:], leaves[32:]
	}
	if len(entries)+len(leaves)+len(nodes) > 0 {
		refuse("there is more than the checkpoint covers")
	}
	return tree
}

// served fetches below the log's prefix, as any tool for tlog-tiles does.
func served(url, token, path string) []byte {
	request, err := http.NewRequest("GET", url+"/"+path, nil)
	check(err, path)
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(request)
	check(err, path)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	check(err, path)
	if answer.StatusCode != 200 {
		refuse(fmt.Sprintf("%s: %d", path, answer.StatusCode))
	}
	return body
}

// tilesServed compares every served tile with the replayed tree, byte for byte, and every served entry with its leaf.
func tilesServed(url, token string, tree stored, size int64) (count int) {
	for _, tile := range tlog.NewTiles(8, 0, size) {
		wanted, err := tlog.ReadTileData(tile, tree)
		check(err, "tile")
		// x/mod writes the tile's height into the path, tlog-tiles does not.
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		if !bytes.Equal(served(url, token, path), wanted) {
			refuse(path + " differs")
		}
		count++
		if tile.L != 0 {
			continue
		}
		bundle := served(url, token, strings.Replace(path, "tile/0/", "tile/entries/", 1))
		for n := 0; n < tile.W; n++ {
			length := 2 + int(binary.BigEndian.Uint16(bundle))
			if hash := tlog.RecordHash(bundle[2:length]); !bytes.Equal(hash[:], wanted[32*n:32*n+32]) {
				refuse(fmt.Sprintf("served entry %d of %s differs", n, path))
			}
			bundle = bundle[length:]
		}
		if len(bundle) > 0 {
			refuse("the served entries of " + path + " have more behind them")
		}
	}
	return count
}

// proven checks a tlog-proof file whose extra line brings the entry.
func proven(file []byte, key ...note.Verifier) int64 {
	head, text, _ := strings.Cut(string(file), "\n\n")
	line := strings.Split(head, "\n")
	if len(line) < 3 || line[0] != "c2sp.org/tlog-proof@v1" {
		refuse("no tlog-proof")
	}
	entry, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(line[1], "extra "))
	check(err, "extra")
	index, err := strconv.ParseInt(strings.TrimPrefix(line[2], "index "), 10, 64)
	check(err, "index")
	var proof tlog.RecordProof
	for _, one := range line[3:] {
		hash, err := tlog.ParseHash(one)
		check(err, "proof")
		proof = append(proof, hash)
	}
	tree := opened([]byte(text), key...)
	check(tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)), "proof")
	return index
}

func member(archive *zip.ReadCloser, name string) []byte {
	file, err := archive.Open(name)
	check(err, name)
	data, err := io.ReadAll(file)
	check(err, name)
	return data
}

func main() {
	bundle := flag.String("bundle", "", "an exported bundle")
	vkey := flag.String("vkey", "", "the log's key")
	witness := flag.String("witness", "", "the key of a witness that must have cosigned")
	old := flag.String("old", "", "an older checkpoint of the log")
	url := flag.String("url", "", "the served log: …/api/v1/audit/log")
	token := flag.String("token", "", "who may read it")
	proof := flag.String("proof", "", "a tlog-proof file")
	flag.Parse()
	key, err := note.NewVerifier(*vkey)
	check(err, "the log's key")
	keys := []note.Verifier{key}
	if *witness != "" {
		keys = append(keys, newCosigner(*witness))
	}
	archive, err := zip.OpenReader(*bundle)
	check(err, "bundle")
	tree := opened(member(archive, "checkpoint"), keys...)
	hashes := replayed(member(archive, "entries.bin"), member(archive, "leaves.bin"), member(archive, "nodes.bin"), tree.N)
	root, err := tlog.TreeHash(tree.N, hashes)
	check(err, "root")
	if root != tree.Hash {
		refuse("the entries do not lead to the signed root")
	}
	for n := int64(0); n < tree.N; n += 1 + tree.N/1000 {
		path, err := tlog.ProveRecord(tree.N, n, hashes)
		check(err, "inclusion")
		check(tlog.CheckRecord(path, tree.N, root, n, hashes[tlog.StoredHashIndex(0, n)]), "inclusion")
	}
	fmt.Printf("replayed %d entries to the signed root; keys %d\n", tree.N, len(keys))
	if *old != "" {
		text, err := os.ReadFile(*old)
		check(err, "old")
		before := opened(text, key)
		path, err := tlog.ProveTree(tree.N, before.N, hashes)
		check(err, "consistency")
		check(tlog.CheckTree(path, tree.N, root, before.N, before.Hash), "consistency")
		fmt.Printf("consistent with %d\n", before.N)
	}
	if *proof != "" {
		file, err := os.ReadFile(*proof)
		check(err, "proof")
		fmt.Printf("proof of entry %d\n", proven(file, key))
	}
	if *url != "" {
		now := opened(served(*url, *token, "checkpoint"), key)
		if now.N < tree.N {
			refuse("the served log is shorter than the bundle")
		}
		fmt.Printf("served tiles %d\n", tilesServed(*url, *token, hashes, tree.N))
	}
	fmt.Println("VERIFIED")
}
