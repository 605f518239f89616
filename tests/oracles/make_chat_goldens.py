"""Make `runtime/data/chat.json`: prompts as transformers' `apply_chat_template` renders them.

Run with transformers and gguf, and the SmolLM2 package:

    python tests/oracles/make_chat_goldens.py SMOLLM2_GGUF

Templates: SmolLM2's, from its GGUF file, and others written to use what real ones use.
"""

# ruff: noqa: E501  (templates keep their lines)
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf
from transformers.utils.chat_template_utils import render_jinja_template

PATH = Path(__file__).parents[1] / "runtime" / "data" / "chat.json"

TEMPLATES = {
    # Loops, trimmed whitespace, block control on lines of its own.
    "turns": """{{ bos_token }}
{%- for message in messages %}
    {%- if not loop.first and message.role == messages[loop.index0 - 1].role %}
        {{- raise_exception("two turns of " ~ message.role ~ " in a row") }}
    {%- endif %}
    {% if message.role == "system" %}
<<{{ message.content | trim }}>>
    {%- elif message.role in ["user", "assistant"] -%}
        [{{ message.role | upper }}] {{ message["content"] + (eos_token if message.role == "assistant" else "") }}
    {%- else %}
        {%- continue %}
    {%- endif %}
{% endfor %}
{% if add_generation_prompt %}[ASSISTANT]{% endif %}
""",
    # Macros, namespaces, tojson, tools, content parts, reversed loops.
    "tools": """{%- macro parts(content) -%}
    {%- if content is string -%}{{ content }}
    {%- elif content is none -%}
    {%- else -%}
        {%- for part in content -%}
            {%- if part.type == "text" -%}{{ part.text }}{%- else -%}<{{ part["type"] }}>{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(last_user=-1, text="") -%}
{%- for message in messages[::-1] -%}
    {%- if ns.last_user < 0 and message.role == "user" -%}
        {%- set ns.last_user = messages | length - 1 - loop.index0 -%}
    {%- endif -%}
{%- endfor -%}
{%- if tools is defined and tools -%}
# Tools
{% for tool in tools %}
{{ tool | tojson }}
{{ tool.function | tojson(indent=2) }}
{% endfor %}
{%- endif -%}
{%- for message in messages -%}
    {%- set mark = "*" if loop.index0 == ns.last_user else "" -%}
    {%- generation -%}<|{{ message.role }}{{ mark }}|>{{ parts(message.content) }}{%- endgeneration -%}
    {%- for call in message.tool_calls or [] -%}
        {"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
    {%- endfor -%}
    {%- set ns.text = ns.text + message.role[0] -%}
{%- endfor -%}
({{ ns.text }})
{%- if add_generation_prompt %}<|assistant|>{% endif -%}
""",
    # Filters, tests, slices, undefined values, dict methods, formatting, captured blocks.
    "filters": """{% set system = messages | selectattr("role", "equalto", "system") | map(attribute="content") | list %}
{% set rest = messages | rejectattr("role", "equalto", "system") | list %}
{% set title %}{{ system | join(" / ") | default("none", true) | title }}{% endset %}
Title: {{ title.strip() }} ({{ title | length }})
{% for message in rest[:-1] if message.content is string %}
{{ loop.index }}/{{ loop.length }} {{ "%-10s|" | format(message.role) }} {{ message.content.split("\n")[0] | replace("a", "A") }}
{{- "" if loop.last else "," }}
{% else %}
(no earlier turns)
{% endfor %}
{{ missing }}{{ messages[0].nothing }}{{ missing is defined }}
{% for key, value in messages[0].items() %}{{ key }}={{ value | tojson }};{% endfor %}
{{ messages[0] | dictsort | first | first }} {{ "{}-{:>4}".format(1, "x") }} {{ "%s %d" % ("a", 3) }}
{{ [1, 2, 3] | sum }} {{ (7 // 2) ** 2 % 5 }} {{ range(3) | list }} {{ 3.14159 | round(2) }}
{{ rest[-1].content | indent(2) | truncate(30) }} {{ "<é&>" | tojson }} {{ "a<b" }} {{ {"b": none, "a": true} }}
{{ messages | map(attribute="role") | unique | sort | join(",") }} {{ rest[-1].content.startswith("a") }}
{{ "x" ~ 1 ~ none ~ true }} {{ dict(a=1).get("b", "z") }} {{ ["a", "b"] | reverse | list }}
""",
}

HELLO = [{"role": "user", "content": "Hello!"}]
TALK = [
    {"role": "system", "content": "  be brief  "},
    {"role": "user", "content": "What is 2+2?\nand why"},
    {"role": "assistant", "content": "4 — naturally"},
    {"role": "user", "content": "a b <c> & \"d\" 'e' 中文 😀 {{ x }} {% y %}\n\nlast line"},
]
PARTS = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "see "}, {"type": "image"}, {"type": "text", "text": "!"}],
    },
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1.5, "y": ["é"]}}}],
    },
    {"role": "tool", "content": "42"},
]
TWICE = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "It's <hot>",
        "parameters": {"type": "object", "n": [1, None]},
    },
}

CASES = [
    *((name, talk, True, None) for name in ("smollm2", "turns", "filters") for talk in (HELLO, TALK)),
    *((name, TALK, False, None) for name in ("smollm2", "turns")),
    *(("tools", talk, True, tools) for talk in (HELLO, TALK, PARTS) for tools in (None, [WEATHER])),
    ("turns", TWICE, True, None),
    ("turns", [*HELLO, {"role": "tool", "content": "skipped"}], True, None),
]


def main() -> None:
    field = gguf.GGUFReader(sys.argv[1]).fields["tokenizer.chat_template"]
    templates = {"smollm2": field.contents(), **TEMPLATES}
    cases: list[dict[str, Any]] = []
    for name, messages, prompt, tools in CASES:
        case = {"template": name, "messages": messages, "add_generation_prompt": prompt, "tools": tools}
        try:
            texts, _ = render_jinja_template(
                [messages],
                tools=tools,
                chat_template=templates[name],
                add_generation_prompt=prompt,
                bos_token="<s>",
                eos_token="</s>",
            )
            case["text"] = texts[0]
        except Exception as error:
            case["refusal"] = str(error)
        cases.append(case)
    PATH.write_text(json.dumps({"templates": templates, "cases": cases}, indent=1) + "\n")
    print(f"{len(cases)} cases, {sum('refusal' in case for case in cases)} refused")


if __name__ == "__main__":
    main()
