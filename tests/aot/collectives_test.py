"""Collectives read from the text of a small HLO program."""

from mig_jax.aot.collectives import Collective, Traffic, read_collectives

HLO = """HloModule jit_step, is_scheduled=true, num_partitions=4

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%inner_body.1 (p: (s32[], bf16[8,16])) -> (s32[], bf16[8,16]) {
  %all-gather.1 = bf16[8,16]{1,0:T(8,128)(2,1)} all-gather(%w), channel_id=1, replica_groups=[1,4]<=[4], dimensions={0}
  %use = bf16[8,16]{1,0} fusion(%all-gather.1), kind=kLoop, calls=%fused
}

%inner_condition (p: (s32[], bf16[8,16])) -> pred[] {
  %constant.2 = s32[]{:T(128)} constant(3)
  ROOT %lt = pred[]{:T(512)} compare(%i, %constant.2), direction=LT
}

%fused (a: bf16[8,16]) -> bf16[8,16] {
  %all-gather.4 = f32[8]{0} all-gather(%a), channel_id=3, dimensions={0}
  ROOT %copy = bf16[8,16]{1,0} copy(%a)
}

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %while.1 = (s32[], bf16[8,16]{1,0}) while(%t), condition=%inner_condition, body=%inner_body.1
  %all-reduce.7 = (f32[4]{0:T(128)}, /*index=1*/f32[2,3]{1,0}) all-reduce(%g, %h), channel_id=2, to_apply=%add
  %piece = f32[] fusion(%g), kind=kCustom, calls=%pieces
  %other = f32[] fusion(%g), kind=kCustom, calls=%pieces
  %start = (f32[2]{0}, f32[8]{0}) all-gather-start(%k), channel_id=3, dimensions={0}
  %done = f32[8]{0} all-gather-done(%start)
}

%pieces (a: f32[3]) -> f32[] {
  %all-gather.2 = f32[6]{0:T(128)S(1)} all-gather(%a), channel_id=11, dimensions={0}
  %all-gather.3 = f32[6]{0:T(128)} all-gather(%a), channel_id=11, dimensions={0}
}

%wrapped (a: f32[8]) -> f32[2] {
  ROOT %reduce-scatter.1 = f32[2]{0} reduce-scatter(%a), channel_id=5, dimensions={0}, to_apply=%add
}

%compared (i: s32[]) -> pred[] {
  %bound = s32[] constant(5)
  ROOT %less = pred[] compare(%i, %bound), direction=LT
}

%condition (p: (s32[], f32[4])) -> pred[] {
  ROOT %fusion.3 = pred[] fusion(%i), kind=kLoop, calls=%compared
}

%left (a: s8[7]) -> s8[7] {
  ROOT %all-to-all.1 = s8[7]{0} all-to-all(%a), channel_id=8
}

%right (a: s8[7]) -> s8[7] {
  ROOT %same = s8[7]{0} copy(%a)
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %while.2 = (s32[], f32[4]{0}) while(%init), condition=%condition, body=%body
  %known = (s32[]) while(%init), condition=%condition, body=%only, backend_config={"known_trip_count":{"n":"9"}}
  %async = ((f32[8]{0}), f32[2]{0}) async-start(%a), calls=%wrapped
  %end = f32[2]{0} async-done(%async), calls=%wrapped
  %moved = (f32[6]{0}, f32[6]{0}, u32[], u32[]) collective-permute-start(%a), channel_id=6
  ROOT %either = s8[7]{0} conditional(%p, %a, %a), branch_computations={%left, %right}
}

%only (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %all-reduce.9 = pred[10]{0} all-reduce(%g), channel_id=9, to_apply=%add
}
"""


def test_operations_trip_counts_and_bytes():
    assert read_collectives(HLO) == {
        # Five iterations of three iterations: 8·16 numbers of two bytes.
        Collective("all-gather", (5, 3)): Traffic(1, 5 * 3 * 256),
        # A start lists its operand beside its result. Pieces of one channel count once, even if some are in a loop.
        Collective("all-gather", (5,)): Traffic(2, 5 * (8 + 6) * 4),
        Collective("all-reduce", (5,)): Traffic(1, 5 * (4 + 6) * 4),
        Collective("all-reduce", (9,)): Traffic(1, 9 * 10),
        Collective("collective-permute", ()): Traffic(1, 24),
        Collective("reduce-scatter", ()): Traffic(1, 8),
        Collective("all-to-all", ()): Traffic(1, 7),
    }


def test_largest_comes_first():
    sizes = [amount.nbytes for amount in read_collectives(HLO).values()]
    assert sizes == sorted(sizes, reverse=True)
