"""A comparison for people."""

from __future__ import annotations

from rlxflow.porting.compare import Comparison, Difference


def comparison_text(comparison: Comparison, every: bool = False) -> str:
    """What was compared, the first difference with its causes, and with `every` all activations."""
    rows = comparison.rows
    worst = max(rows, key=lambda row: row.error)
    lines = [f"{len(rows)} activations compared, tolerance {comparison.tolerance:g}"]
    if comparison.missing:
        shown = ", ".join(comparison.missing[:3]) + (", …" if len(comparison.missing) > 3 else "")
        lines.append(f"{len(comparison.missing)} modules are not in the reference: {shown}")
    if comparison.agrees:
        lines.append(f"all agree; the largest error is {worst.error:.1e}, at {worst.module}")
    elif comparison.difference is not None:
        lines += _difference_lines(comparison, comparison.difference)
    elif comparison.drift is not None:
        lines += [
            f"every part is right by itself; from end to end the error leaves tolerance at "
            f"{comparison.drift.module} ({comparison.drift.error:.1e})",
            "so it comes from the profile's precision or the backend, or adds up from rounding",
        ]
    if every:
        width = max(len(row.module) for row in rows)
        lines += ["", f"{'activation':<{width}}  end to end  by itself"]
        lines += [f"{row.module:<{width}}  {row.error:10.1e}  {row.own_error:9.1e}" for row in rows]
    return "\n".join(lines)


def _difference_lines(comparison: Comparison, found: Difference) -> list[str]:
    lines = [
        f"first difference: {found.module}, error {found.error:.1e}",
        f"  stage     {found.stage}",
        f"  computes  {', '.join(found.ops) or 'nothing: the reference has something here that we have not'}",
        f"  from      {', '.join(found.inputs)}",
    ]
    lines += [f"  looks     {line}" for line in found.signature]
    if not found.causes:
        lines.append("  cause     none of the usual ones; compare the stage with the original code")
    for i, cause in enumerate(found.causes):
        word = "cause" if found.explained and i == 0 else "maybe"
        lines.append(f"  {word}     {cause.text} (leaves {cause.error:.1e})")
    others = [row for row in comparison.rows if row.own_error > comparison.tolerance][1:]
    if others:
        lines.append(f"  also      {len(others)} later activations are wrong by themselves")
    return lines
