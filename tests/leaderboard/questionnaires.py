"""What the tests of questionnaires share: a folder to ask about, and participants of known behaviour."""

import json

from attrlab.leaderboard.questionnaire import Settings
from attrlab.leaderboard.questionnaire_score import outcomes, read_answers, responses

METHODS = ("lime:samples=200", "shap", "occlusion", "random")
SIMULATION = Settings(kind="simulation", models=("bert-tiny",), items=20)
CHOICE = Settings(kind="choice", items=8, texts=2)


def fill(folder):
    """Writes 48 texts of which the second model is right on six more than the first."""
    folder.add("lexicon:test")

    def spoil(chunk):
        for row in [row for row in chunk["rows"] if row["correct"]][:6]:
            row |= {"correct": False, "label": 1 - row["label"]}

    folder.change("predictions", "lexicon_test-bert-tiny-0", spoil)
    folder.write()
    return folder


def pages(out):
    return {path.name: path.read_text(encoding="utf-8") for path in (out / "pages").iterdir()}


def answer(out, key, group, participant, choose):
    """Writes what a participant hands in who answers question by question with ``choose(question, item)``."""
    items = {item.item: item for item in key.items}
    path = out / f"{participant}.json"
    content = {
        "version": 1,
        "questionnaire": key.id,
        "group": group.group,
        "participant": participant,
        "started": "2026-01-02T03:04:05.000Z",
        "finished": "2026-01-02T03:14:05.000Z",
        "answers": [
            {"item": q.item, "answer": choose(q, items[q.item]), "confidence": None, "seconds": 4.5}
            for q in group.questions
        ],
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def everybody(out, key, choose, rounds=1):
    return [answer(out, key, group, f"p{turn}-{group.group}", choose) for turn in range(rounds) for group in key.groups]


def scored(key, paths):
    return {one.condition: one for one in outcomes(key, responses(key, read_answers(key, paths)))}


def other(key, option):
    return next(one for one in key.options if one != option)
