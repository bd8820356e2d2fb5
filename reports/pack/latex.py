"""`table.tex`: the cells of a run for a paper, in plain LaTeX without packages, and so in English alone."""

from __future__ import annotations

from reports.pack.cells import Cell, heads
from reports.text import DASH, MINUS, THIN, TIMES, one_line

CAPTION = ("Time A / time B with its interval (above 1, B is faster), over N blocks of fresh processes. "
           "{setting}")  # English
EMPTY = "No comparison was recorded in this run"  # English
COMMENT = "% {run}: put \\input{{table.tex}} into a document; needs no package.\n"  # English
LABEL = "tab:ddpm-bench"

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
    MINUS: "$-$", TIMES: r"$\times$", DASH: "--", THIN: r"\,", "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MICRO SIGN}": r"$\mu$",
    "\N{EM DASH}": "---", "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}", "\N{NO-BREAK SPACE}": "~",
    # A row that begins so would be the argument of the \\ before it; an interval would be with it.
    "[": "{[}", "]": "{]}",
}


def tex(text: object) -> str:
    """Text as LaTeX sets it with any engine; a letter that not every one has becomes a question mark."""
    return "".join(SPECIAL.get(c, c if c.isascii() else "?") for c in one_line(text))


def table(found: list[Cell], setting: str, run: str) -> str:
    """The table with its caption.

    Args:
        found: the cells.
        setting: where they were measured.
        run: the run's name.
    """
    rows = [heads(), *((one.metric, one.a, one.b, one.ratio, one.level, one.n, one.word) for one in found)]
    lines = [" & ".join(map(tex, row)) + r" \\" for row in rows]
    if not found:
        lines.append(rf"\multicolumn{{{len(rows[0])}}}{{l}}{{{tex(EMPTY)}}} \\")
    body = "\n".join([r"\hline", lines[0], r"\hline", *lines[1:], r"\hline"])
    return (f"{COMMENT.format(run=tex(run))}\\begin{{table}}\n\\caption{{{tex(CAPTION.format(setting=setting))}}}\n"
            f"\\label{{{LABEL}}}\n\\centering\n\\begin{{tabular}}{{lllllrl}}\n{body}\n"
            "\\end{tabular}\n\\end{table}\n")
