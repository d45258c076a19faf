# SPDX-License-Identifier: Apache-2.0
"""Records what Jinja2, set up as transformers sets it up for chat templates, makes of the tests' templates.

    record_jinja.py FOLDER    writes FOLDER/expected.json and FOLDER/snippets_expected.json

FOLDER/templates holds chat templates, FOLDER/conversations.json what each of them is rendered with,
FOLDER/snippets.json small templates and their variables. An output of null is an error. Made with Jinja2 3.1.6 and
transformers 5.23.0.
"""

import datetime
import json
import pathlib
import sys

from transformers.utils import chat_template_utils

DATE = datetime.datetime(2024, 7, 26)


class FixedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return DATE


def render(source, variables):
    try:
        return chat_template_utils._compile_jinja_template(source).render(**variables)
    except Exception:
        return None


def save(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    chat_template_utils.datetime = FixedClock
    folder = pathlib.Path(sys.argv[1])
    conversations = load(folder / "conversations.json")
    expected = {}
    for path in sorted((folder / "templates").glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        expected[path.stem] = {name: render(source, variables) for name, variables in conversations.items()}
    save(folder / "expected.json", expected)
    snippets = load(folder / "snippets.json")
    save(folder / "snippets_expected.json", [render(text, snippets["variables"]) for text in snippets["templates"]])
