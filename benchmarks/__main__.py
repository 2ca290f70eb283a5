"""`python -m benchmarks`: the benchmarks and what each of them measures."""

import ast
from pathlib import Path


def main() -> None:
    """Every file here whose name can be run, with the first line of its docstring."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if 'if __name__ == "__main__"' in source and path.name != "__main__.py":
            text = ast.get_docstring(ast.parse(source)) or ""
            print(f"python -m benchmarks.{path.stem:24} {text.splitlines()[0]}")


if __name__ == "__main__":
    main()
