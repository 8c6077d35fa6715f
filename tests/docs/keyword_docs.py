"""Docstrings of the constructor's keywords, rendered from the model of the options; written with

python -m tests.docs.keyword_docs
"""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

from assistant_queue.config import Config, keywords
from assistant_queue.config.signature import default_of, described
from tests.docs.generated import environment_variable

SOURCE = Path(str(keywords.__file__))
COLUMNS = 100


def docstring_of(name: str) -> str:
    """Meaning, default with its unit, environment variable and acting process of an option."""
    extra = Config.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    variable = environment_variable(name)
    sentences = [
        described(name),
        f"Default: {default_of(name)}.",
        f"Environment: {variable}." if variable else "",
        f"Used by: {'producer and worker' if extra['where'] == 'both' else extra['where']}.",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def literal(text: str) -> str:
    """A docstring of a class attribute, wrapped."""
    if len(text) + 10 <= COLUMNS:
        return f'    """{text}"""'
    lines = textwrap.wrap(text, COLUMNS - 4, initial_indent='"""', break_on_hyphens=False)
    if len(lines[-1]) + 7 > COLUMNS:
        lines.append("")
    return "\n".join(f"    {line}".rstrip() for line in lines) + (
        '    """' if not lines[-1] else '"""'
    )


def rendered(source: str) -> str:
    """The source of the keywords' module, with the docstrings as the model has them."""
    (options,) = (
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == "Options"
    )
    lines = source.splitlines()
    kept = [*lines[: options.body[0].end_lineno or 0], ""]
    for node in options.body[1:]:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            kept += lines[node.lineno - 1 : node.end_lineno]
            kept.append(literal(docstring_of(node.target.id)))
    return "\n".join(kept) + "\n"


if __name__ == "__main__":
    SOURCE.write_text(rendered(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
