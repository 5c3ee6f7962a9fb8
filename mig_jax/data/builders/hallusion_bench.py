"""HallusionBench: questions that test for hallucinations from prior knowledge and from visual illusions."""

from mig_jax.data.builders.benchmark import Benchmark
from mig_jax.data.problem import Problem
from mig_jax.data.rows import Row

_IMAGES = "hallusion_bench.zip"
_GITHUB = "https://raw.githubusercontent.com/tianyi-lab/HallusionBench/main"


class HallusionBench(Benchmark):
    """1,129 yes-no questions, most of them asked about a figure and again about an edited version of it.

    An id is category/subcategory/set_id/figure_id/question_id: without question_id it identifies a figure, without
    figure_id a question that is asked about several figures. The level is the category (VD: needs the figure, VS: can
    be answered without it). The subject is the subcategory.

    A row: {"category": "VD", "subcategory": "illusion", "visual_input": "1", "set_id": "0", "figure_id": "0",
    "question_id": "0", "question": "…", "gt_answer": "1", "gt_answer_details": "…", "sample_note": "circle",
    "filename": "./VD/illusion/0_0.png"}; if visual_input is "0", filename is null.
    """

    name = "hallusion_bench"
    FILES = {"test": ("HallusionBench.json",)}
    ARCHIVES = (_IMAGES,)
    # The images are on Google Drive and must be downloaded by hand.
    URLS = {"HallusionBench.json": f"{_GITHUB}/HallusionBench.json"}
    HOMEPAGE = "https://github.com/tianyi-lab/HallusionBench"
    LICENSE = "BSD-3-Clause"
    PAPER = "arXiv 2310.14566"

    def parse_row(self, row: Row, split: str) -> Problem:
        del split
        category, subcategory = row.one_of("category", ("VD", "VS")), row.text("subcategory")
        has_image = row.one_of("visual_input", ("0", "1", "2")) != "0"
        return Problem(
            id="/".join((category, subcategory, *map(row.text, ("set_id", "figure_id", "question_id")))),
            question=row.text("question"),
            answer={"0": "no", "1": "yes"}[row.one_of("gt_answer", ("0", "1"))],
            kind="yes_no",
            images=(self.archives[_IMAGES].read_image(row, row.text("filename")),) if has_image else (),
            level=category,
            subject=subcategory,
        )
