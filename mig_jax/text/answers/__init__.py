"""Comparing an answer with the reference answer.

Lives here: the kinds of answers, the rules that compare them, ways to spell and to read an answer, votes, and the
verifier with its worker processes. The rules are asked in this order, each in a file with its tables:

    kinds        what depends on the kind of an answer, in one table; kinds of the user's own
    compare      one comparison for each kind; numbers in `quantities`, texts in `normalize`, choices in `choices`,
                 lists in `sets`, expressions in `formulas`:
    normalize      one notation: fonts, Unicode, lead-ins
    notations      numerals of a base, times of the day, ratios
    structure      lists, tuples, matrices, relations, down to single values
    regions        intervals and conditions on one variable
    equations      names before an equals sign, equivalent equations
    scalars        single values: `quantities` (numbers with units, see `conversions`), then words, then formulas
    parser         formulas that can be evaluated, from `tokens`
    identities     their equality by values at points, exact or to 60 digits; `arithmetic` computes them
    checks         what runs in worker processes only: algebra by latex2sympy and sympy, graders of reasoning-gym

Answers are read leniently in this order, see `lenient`:

    lenient        the answer block, else boxes, else:
    leads          what follows "the answer is", "Answer:", 答案
    read_math      numbers and formulas, found by `values` and `math_in_text`; `conclusions` chooses among them
    read_words     yes or no, texts, sets
    named_choice   the choice that a text names, by letter, text or number

May import: errors, parts and `text.response_format`. Algebra and graders run in worker processes only.
Main names: `verifier.Verifier`, `kinds.KINDS`, `kinds.AnswerKind`, `variants.answer_variants`, `votes.vote_key`,
`lenient.extract_lenient_answer`.
"""
