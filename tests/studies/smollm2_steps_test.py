"""The rows that examples/smollm2_steps.py makes of two published datasets, and its config."""

import json

from mig_jax.parts import find_part

EXAMPLE = "examples/smollm2_steps.py:"


def test_short_word_problems_of_frequent_kinds_are_kept_once():
    def entry(question, steps, answer="7"):
        cot = "\n".join([*steps, f"#### {answer}"])
        return {"question": question, "answer": answer, "metadata": {"answer_cot": cot}}

    steps = ["Ann has 3.", "Bob has 4.", "3 + 4 = 7"]
    entries = [entry("Ann has 3. How many?", steps)] * 2
    entries += [entry("Bob has 5. How many?", steps, "5"), entry("Short?", steps[:1]), entry("Half?", steps, "0.5")]
    rows = find_part(f"{EXAMPLE}word_problems", {}, key="example")(entries)
    assert [row["question"] for row in rows] == ["Ann has 3. How many?", "Bob has 5. How many?"]
    assert rows[0] == {"question": rows[0]["question"], "answer": "7", "kind": "number", "steps": steps}


def test_commonsense_steps_name_the_answer_and_another_choice():
    options = "\nA. bank\nB. library\nC. mall\nD. park\nE. sea"
    rows = [{"question": "Where?", "options": options, "answer": "B. library"}]
    rows += [rows[0] | {"answer": "none of these"}, rows[0] | {"options": options[:9]}]
    (row,) = find_part(f"{EXAMPLE}commonsense", {}, key="example")(map(json.dumps, rows))
    assert row["answer"] == "B" and row["choices"] == ["bank", "library", "mall", "park", "sea"]
    first, second = row["steps"]
    assert "library" in first and second == "Of these, library fits better."
    assert sum(choice in first for choice in row["choices"]) == 2
