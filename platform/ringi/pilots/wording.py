"""A pilot in English and in Japanese: the words of page and pictures, and how numbers are written. Pure.

Both languages of a text stand side by side, so that neither is forgotten. Numbers are written alike in both.
"""

from collections.abc import Callable

from ringi.pilots.schemas import BASE, FULL, Estimated, Language, Money

_MINUTE_S, _HOUR_S, _LONG = 60.0, 3600.0, 120.0
_KIB, _MIB, _GIB = 2**10, 2**20, 2**30
# Money and seconds below this are shown with their decimals.
_SMALL = 100.0
METHODS = {"lora": "LoRA", "dora": "DoRA", "adalora": "AdaLoRA", "ia3": "IA3", "vera": "VeRA"}

TEXTS: dict[str, tuple[str, str]] = {
    "title": ("Pilot {name}: {dataset} on {base}", "パイロット {name}：{dataset}（{base}）"),
    "base": ("base as it is", "ベースモデルのまま"),
    "full": ("full fine-tuning", "フルファインチューニング"),
    "and": (", ", "、"),
    "unknown": ("not measured", "未測定"),
    "none": ("none", "なし"),
    "seconds": ("{amount} s", "{amount} 秒"),
    "minutes": ("{amount} min", "{amount} 分"),
    "hours": ("{amount} h", "{amount} 時間"),
    "between": ("{value} ({low} to {high})", "{value}（{low}～{high}）"),
    "points": ("{amount} points", "{amount} ポイント"),
    "compared": (
        "Compared are {base} as it is and {count} ways of adapting it ({arms}), on {rows} rows of {dataset} that none of them learnt from.",
        "{dataset} の学習に使っていない {rows} 件で、{base} をそのまま使う場合と、{count} 通りの調整方法（{arms}）を比較した。",
    ),
    "compared_by_suite": (
        "Compared are {base} as it is and {count} ways of adapting it to {dataset} ({arms}), on {rows} items of {suite}.",
        "{suite} の {rows} 件で、{base} をそのまま使う場合と、{dataset} による {count} 通りの調整方法（{arms}）を比較した。",
    ),
    "only_one": ("Recommended is {arm}: {quality}, the base {base} ({difference}).", "推奨は {arm}：{quality}、ベースは {base}（差 {difference}）。"),
    "best": (
        "Recommended is {arm}: {quality}, the base {base} ({difference}); the other arms are shown to be worse than it, or not shown to be better than the base.",
        "推奨は {arm}：{quality}、ベースは {base}（差 {difference}）。ほかの方法は、これより劣ることが示されたか、ベースより良いことが示されなかった。",
    ),
    "cheapest_of_equal": (
        "Recommended is {arm}: {quality}, the base {base} ({difference}); among {equal} no difference to the best is shown at {rows} rows, and it {yardstick}.",
        "推奨は {arm}：{quality}、ベースは {base}（差 {difference}）。{rows} 件では {equal} の間で最良との差は示されず、その中で{yardstick}。",
    ),
    "none_better": (
        "Nothing is recommended: no arm is shown to be better than the base at this number of rows{detectable}.",
        "推奨する方法はない。この件数では、ベースより良いと示された方法がない{detectable}。",
    ),
    "detectable": (" (a difference below about {amount} would hardly be seen here)", "（およそ {amount} より小さい差は、この件数ではほぼ見えない）"),
    "not_measured": (
        "Nothing is recommended: the quality of no arm could be compared with the base.",
        "推奨する方法はない。ベースと品質を比較できた方法がない。",
    ),
    "by_cost": ("cost the least to train", "学習費用が最も少ない"),
    "by_gpu_seconds": ("took the fewest GPU seconds", "GPU 時間が最も少ない"),
    "by_seconds": ("was trained in the least time", "学習時間が最も短い"),
    "by_bytes": ("has the fewest bytes to ship at about the same cost of training", "学習費用がほぼ同じで、配布する容量が最も小さい"),
    "its_price": (
        "Its training took {seconds} ({cost}), {bytes} are shipped; {returns}.",
        "学習は {seconds}（{cost}）、配布する容量は {bytes}。{returns}。",
    ),
    "all_prices": (
        "The trainings took {seconds} in all ({cost}); {returns}.",
        "学習は合わせて {seconds}（{cost}）。{returns}。",
    ),
    "all_prices_unknown": ("What the trainings took was not measured; {returns}.", "学習にかかったものは未測定。{returns}。"),
    "nothing_spent": ("nothing spent", "支出なし"),
    "costs": ("cost {amount}", "費用 {amount}"),
    "cost_unknown": ("cost not measured", "費用は未測定"),
    "net_is": (
        "over {months} months it returns {net} net by the figures entered",
        "入力値によれば、{months} か月の正味の効果は {net}",
    ),
    "returns_of_all": (
        "no arm is recommended, and the table below gives the return of each by the figures entered",
        "推奨する方法はなく、入力値による各方法の効果額を下の表に示す",
    ),
    "not_computed": ("the return is not computed: {why}", "効果額は計算していない：{why}"),
    "not_given": ("{names} not given", "{names} が未入力"),
    "no_share": ("the metric {metric} is no share of right answers", "指標 {metric} は正答率ではない"),
    "no_quality": ("the quality was not measured", "品質が未測定"),
    "arm": ("arm", "方法"),
    "quality": ("Quality", "品質"),
    "quality_of": ("{metric} on {rows} rows, with 90 % intervals", "{rows} 件での {metric}（90 % 区間）"),
    "rows": ("rows", "件数"),
    "to_base": ("difference to the base", "ベースとの差"),
    "to_best": ("difference to the best", "最良との差"),
    "flips": ("rows lost / won", "失った／得た件数"),
    "better": ("better", "良い"),
    "worse": ("worse", "劣る"),
    "nothing": ("no difference shown at this number of rows", "この件数では差は示されない"),
    "effort": ("What it took", "かかったもの"),
    "trained": ("trained parameters", "学習したパラメータ"),
    "memory": ("peak memory", "最大メモリ"),
    "forecast": ("{amount}, forecast", "{amount}（予測）"),
    "time": ("time of training", "学習時間"),
    "gpu": ("GPU seconds", "GPU 秒"),
    "cost": ("cost of training", "学習費用"),
    "latency": ("seconds an answer: median / 95th percentile", "1 回答の秒数：中央値／95 パーセンタイル"),
    "shipped": ("to ship", "配布する容量"),
    "beside": ("nothing beside the base", "ベース以外なし"),
    "effort_picture": ("Time and cost of training", "学習の時間と費用"),
    "returns": ("Return on investment", "投資対効果"),
    "saved": ("work saved", "節約した作業"),
    "harm": ("wrong answers", "誤答の損失"),
    "running": ("running", "運用費"),
    "one_off": ("once", "一時費用"),
    "training_counted": ("with training", "学習費用込み"),
    "training_not_measured": ("training not counted: not measured", "学習費用は未測定のため含まない"),
    "training_other_currency": ("training not counted: another currency", "学習費用は通貨が違うため含まない"),
    "net": ("net", "正味"),
    "ratio": ("net / spent", "正味／支出"),
    "over_base": ("more than the base", "ベースとの効果の差"),
    "entered": ("Figures that were entered", "入力値"),
    "not_entered": ("not given", "未入力"),
    "figure_currency": ("currency", "通貨"),
    "figure_requests_per_month": ("requests a month", "月間の件数"),
    "figure_minutes_saved": ("minutes saved by a right answer", "正答 1 件で節約する分"),
    "figure_wrong_answer_cost": ("cost of a wrong answer", "誤答 1 件の費用"),
    "figure_hourly_wage": ("hourly wage", "時給"),
    "figure_months": ("months", "月数"),
    "figure_running_cost": ("running cost a month", "月間運用費"),
    "figure_one_off_cost": ("one-off cost", "一時費用"),
    "how": ("How it was made", "作り方"),
    "version": ("version", "版"),
    "run": ("run", "学習ジョブ"),
    "rate": ("learning rate", "学習率"),
    "rank": ("rank", "ランク"),
    "steps": ("steps", "ステップ"),
    "alike": ("alike in all arms", "全方法に共通"),
    "failed": ("failed: {message} [{code}]", "失敗：{message}［{code}］"),
    "mind": ("Mind", "注意"),
    "mind_intervals": (
        "Intervals are at 90 %, each by itself; differences are paired, row by row. Where one holds zero no difference is shown, which does not mean equal.",
        "区間は 90 % で、1 つずつのもの。差は件ごとの対で計算している。区間がゼロを含むときは差が示されないのであって、等しいとは限らない。",
    ),
    "mind_seed": (
        "Each arm was trained once, with one seed; another seed may come out a little differently.",
        "各方法は 1 つの乱数シードで 1 回だけ学習した。シードが違えば結果も少し違いうる。",
    ),
    "mind_time": (
        "Times are of the training loop, on the worker that did it; answers were asked {at_once} at a time, with the adapter beside the base and not merged.",
        "時間は、担当したワーカーでの学習ループのもの。回答は {at_once} 件ずつ求め、アダプタはベースに統合していない。",
    ),
    "mind_forecast": (
        "Memory that is marked as a forecast was not measured by the run.",
        "「予測」とあるメモリは、学習時に測定したものではない。",
    ),
    "mind_loss": (
        "By the figures that were entered {arm} returns less than it costs, over the whole interval: adapting is worth it by them only if some figure changes.",
        "入力値によれば、{arm} の効果は区間の全体で費用を下回る。いずれかの値が変わらない限り、見合わない。",
    ),
    "mind_full": (
        "Full fine-tuning is there to compare with: its version is a whole model, which the platform releases to nobody.",
        "フルファインチューニングは比較のためのもの。その版はモデル全体であり、このプラットフォームからは配布されない。",
    ),
    "evidence": (
        "Dataset {dataset_digest}; suite {suite} {suite_digest}; task {task}; measured {at}.",
        "データセット {dataset_digest}／スイート {suite} {suite_digest}／タスク {task}／測定 {at}",
    ),
}  # fmt: skip


class Writer:
    """Writes in one language."""

    def __init__(self, language: Language, *, shares: bool) -> None:
        self.language, self._place = language, list(Language).index(language)
        self._shares = shares

    def say(self, key: str, **values: object) -> str:
        """A text of the table, filled in."""
        return TEXTS[key][self._place].format(**values)

    def arm(self, name: str) -> str:
        """An arm's name for people."""
        return self.say(name) if name in {BASE, FULL} else METHODS.get(name, name)

    def all_of(self, names: list[str]) -> str:
        """Several in a row."""
        return self.say("and").join(names)

    def score(self, value: float) -> str:
        """A mean of the metric: in percent where it is a share of right answers."""
        return f"{100 * value:.1f} %" if self._shares else f"{value:.3f}"

    def difference(self, value: float) -> str:
        """Between two means."""
        return self.say("points", amount=f"{100 * value:+.1f}") if self._shares else f"{value:+.3f}"

    def scores(self, known: Estimated | None) -> str:
        """A mean with its interval."""
        return self._between(known, self.score)

    def differences(self, known: Estimated | None) -> str:
        """A difference with its interval."""
        return self._between(known, self.difference)

    def amounts(self, known: Estimated | None, currency: str | None) -> str:
        """Money with its interval."""
        # Three digits: what is estimated is known no better.
        return self._between(known, lambda value: f"{_plain(float(f'{value:.3g}'))} {currency or ''}".strip())

    def ratios(self, known: Estimated | None) -> str:
        """A ratio with its interval."""
        return self._between(known, lambda value: f"{value:+.2f}")

    def _between(self, known: Estimated | None, written: Callable[[float], str]) -> str:
        if known is None:
            return self.say("unknown")
        if known.low is None or known.high is None:
            return written(known.value)
        return self.say("between", value=written(known.value), low=written(known.low), high=written(known.high))

    def money(self, cost: Money | None) -> str:
        """An amount."""
        return self.say("unknown") if cost is None else f"{_plain(cost.amount)} {cost.currency}"

    def seconds(self, value: float | None) -> str:
        """A duration in its handiest unit."""
        if value is None:
            return self.say("unknown")
        if value < _LONG:
            return self.say("seconds", amount=_plain(value))
        if value < _LONG * _MINUTE_S:
            return self.say("minutes", amount=f"{value / _MINUTE_S:.1f}")
        return self.say("hours", amount=f"{value / _HOUR_S:,.1f}")

    def bytes(self, value: int | None) -> str:
        """A size in its handiest unit."""
        if value is None:
            return self.say("unknown")
        unit, name = (_GIB, "GiB") if value >= _GIB else (_MIB, "MiB") if value >= _MIB else (_KIB, "KiB")
        return f"{value / unit:,.1f} {name}"

    def number(self, value: float | None) -> str:
        """A count or a plain number."""
        return self.say("unknown") if value is None else f"{value:,}" if isinstance(value, int) else _plain(value)


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= _SMALL else f"{value:.3g}"
