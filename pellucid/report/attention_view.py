"""Sections of the page of `pellucid attention`: maps of the heads, their ablation, the rollout and the lens (floor 9)."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ..inspect.attending import Attending
from ..inspect.head_ablation import HeadEffect, finite
from .charts import Estimate, Series, bar_chart, line_chart, show_short, weight_map
from .html import box, figure, part, section
from .inspection import markup_of, result_sections

MOST_MAPS, MOST_BARS = 48, 24
READING = "A row is a position that attends, a column one that it attends to; darker is more. Below each, the rise of the loss without the head."


def attention_sections(found: Attending, spelled: Sequence[str] = ()) -> list[Markup]:
    """Everything that `found` says. spelled: the tokens, where the page may hold them."""
    sections = [_maps(found, spelled), _bars(found)]
    if found.rollout is not None:
        drawn = weight_map("attention rollout", "", found.rollout, spelled)
        lead = "All layers multiplied, half of each from the residual connection: where things may flow, not what does."
        sections.append(section("Through all layers", box("maps", figure("rollout (suggestive)", drawn)), lead=lead))
    if found.lens is not None:
        lens = found.lens
        curves = [
            Series("shuffled", "other", [(float(i), float(v)) for i, v in enumerate(lens.shuffled)]),
            Series("this network", "ours", [(float(i), float(v)) for i, v in enumerate(lens.kl)]),
        ]
        chart = line_chart("KL from the lens to the answer, nats", "", curves, x_name="blocks passed")
        lead = "What the final norm and output layer read from the stream after each block (logit lens)."
        sections.append(
            section("What it would say block by block", figure("KL to the answer, nats", chart, "card"), lead=lead)
        )
    if found.induction is not None:
        tables = [markup_of(one) for one in found.induction.tables()]
        sections.append(section("Does it copy?", *tables, lead=found.induction.headline()))
    return [*sections, *result_sections(found)]


def _maps(found: Attending, spelled: Sequence[str]) -> Markup:
    layers, shown = [], 0
    effects = {(e.layer, e.head): e for e in found.ablation.effects}
    for path, heads in found.maps.items():
        cards = []
        for head, weights in enumerate(heads[: max(0, MOST_MAPS - shown)]):
            drawn = weight_map(f"attention of head {head} of {path}", "", weights, spelled)
            cards.append(figure(f"head {head}: {_effect(effects.get((path, head)))}", drawn))
        shown += len(cards)
        if cards:
            layers.append(Markup("<h3>{}</h3>{}").format(path, box("maps", *cards)))
    total = sum(len(heads) for heads in found.maps.values())
    note = [part("hint", f"The first {shown} of {total} heads.")] if shown < total else []
    return section("Where every head looks", *layers, *note, lead=READING)


def _effect(effect: HeadEffect | None) -> str:
    if effect is None:
        return "not left out"
    error = finite(effect.zero_error)
    return f"{effect.zero:+.2g}" + ("" if error is None else f" ± {error:.1g}")


def _bars(found: Attending) -> Markup:
    strongest = sorted(found.ablation.effects, key=lambda e: -abs(e.zero))[:MOST_BARS]
    bars = [
        Estimate(
            f"{e.layer} head {e.head}", "ours", e.zero,
            None if finite(e.zero_error) is None else (e.zero - e.zero_error, e.zero + e.zero_error), _effect(e),
        )
        for e in strongest
    ]  # fmt: skip
    a = found.ablation
    chart = bar_chart("Rise of the loss without each head", "", bars, show_short)
    lead = f"The loss is {a.loss:.4g} on {found.measured} ({a.n} {a.unit}); a bar is its rise when a head's result is zero, the line its 95% interval."
    return section("What each head is worth", figure("Rise of the loss", chart, "card"), lead=lead)
