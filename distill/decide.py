"""What the recipe asks for against what teacher and student are, before anything dear is computed."""

from __future__ import annotations

from edgebert.bundle import Bundle
from edgebert.distill.layer_map import LayerPlan, Pairs, Shape, check_pairs, map_layers, shape_of
from edgebert.distill.prepare import Prepared
from edgebert.distill.recipe import Recipe
from edgebert.distill.registry import OBJECTIVES, Objectives, needed
from edgebert.distill.students import StudentPlan
from edgebert.errors import RecipeError
from edgebert.pretrained import read_config

OF_ALL_TEACHERS = ("vector", "mse", "similarity")  # the others learn from the first teacher alone
LEAST_ALIGNED = 0.1  # of the texts: below it hidden states are compared only where the recipe asks for it


def decide_weights(
    recipe: Recipe, plan: StudentPlan, prepared: Prepared, teacher: Bundle, *, pairs: bool
) -> dict[str, float]:
    """The objectives' weights, the one of hidden states decided; pairs: whether there are any.

    Raises: RecipeError when an objective does not fit teacher, student or text.
    """
    share = prepared.aligned_share
    weights = recipe.objectives.weights(aligned=share >= LEAST_ALIGNED)
    on = [name for name, weight in weights.items() if weight]
    if alone := [name for name in on if "tokens" in OBJECTIVES[name].needs and not share]:
        raise RecipeError(
            f"objectives.{alone[0]} compares token by token, and the student's tokenizer or maximum length differs "
            "from the teacher's: none of the texts is read into the same tokens; set it to 0, or keep the teacher's "
            "tokenizer and length"
        )
    if ("pairs" in needed(weights)) != pairs:
        raise RecipeError(
            "objectives.contrastive learns from pairs, and none are given: name them with --pairs" if not pairs else
            "pairs are given, and objectives.contrastive is 0: give it a weight above 0, or leave the pairs out"
        )  # fmt: skip
    check_shape(recipe, weights, plan, teacher)
    return weights


def check_shape(recipe: Recipe, weights: dict[str, float], plan: StudentPlan, teacher: Bundle) -> None:
    """Raises RecipeError when an objective does not fit teacher or student, whatever the text."""
    needs, ours, theirs = needed(weights), plan.manifest.dimension, teacher.manifest.dimension
    if "space" in needs and ours != theirs and recipe.student.projection == "drop":
        raise RecipeError(
            f"objectives.aligned wants the student's vectors in the teacher's space, of {theirs} dimensions, and "
            f'student.projection "drop" leaves them {ours}: keep the projection, or learn objectives.mse'
        )
    if recipe.student.projection == "rotate" and ours > theirs:
        raise RecipeError(
            f'student.projection is "rotate", which keeps all cosines, and the teacher\'s {theirs} dimensions '
            f'cannot hold the student\'s {ours}: use "keep"'
        )
    if recipe.teachers and not any(weights.get(name) for name in OF_ALL_TEACHERS):
        raise RecipeError(
            f"{len(recipe.teachers)} further teachers are given, and nothing is learnt from them: give one of "
            f"objectives.{', '.join(OF_ALL_TEACHERS)} a weight above 0, or leave them out"
        )
    dimension = ours if recipe.student.projection == "drop" else theirs
    if long := [d for d in recipe.objectives.matryoshka if d >= dimension]:
        raise RecipeError(f"objectives.matryoshka names {long[0]} dimensions; the student's vectors have {dimension}")
    plan_layers(recipe.objectives, weights, plan, teacher)


def plan_layers(options: Objectives, weights: dict[str, float], plan: StudentPlan, teacher: Bundle) -> LayerPlan:
    """Which layers are compared for the objectives that compare layers.

    Raises: RecipeError when a layer is named that is not there, or heads do not fit.
    """
    needs = needed(weights)
    ours, theirs = shape_of(plan.encoder.backbone.config.to_dict()), shape_of(read_config(teacher.root))
    pairs: Pairs = ()
    if needs & {"layers", "attention"}:
        strategy = options.layer_map
        pairs = (
            check_pairs(options.layer_pairs, ours, theirs)
            if options.layer_pairs
            else map_layers(strategy, ours, theirs)
        )
    return LayerPlan(
        hidden=pairs if "layers" in needs else (),
        attention=_attention(pairs, ours, theirs) if "attention" in needs else (),
        relations=((ours.layers, _relation_layer(options, theirs)),) if "relations" in needs else (),
        heads=theirs.heads,
        relation_heads=_relation_heads(options, ours, theirs) if "relations" in needs else 1,
    )


def _attention(pairs: tuple[tuple[int, int], ...], ours: Shape, theirs: Shape) -> tuple[tuple[int, int], ...]:
    if ours.heads != theirs.heads:
        raise RecipeError(
            f"objectives.attention compares head by head, and the student has {ours.heads} heads and the teacher "
            f"{theirs.heads}: set student.heads to {theirs.heads}, or learn objectives.relations"
        )
    found = tuple(pair for pair in pairs if min(pair) > 0)
    if not found:
        raise RecipeError("objectives.attention has no layers to compare: objectives.layer_pairs names embeddings only")
    return found


def _relation_layer(options: Objectives, theirs: Shape) -> int:
    layer = options.relation_layer or theirs.layers
    if layer > theirs.layers:
        raise RecipeError(f"objectives.relation_layer is {layer}; the teacher has layers 1 to {theirs.layers}")
    return layer


def _relation_heads(options: Objectives, ours: Shape, theirs: Shape) -> int:
    heads = options.relation_heads or theirs.heads
    if ours.width % heads or theirs.width % heads:
        raise RecipeError(
            f"objectives.relation_heads is {heads}, which does not divide both widths, {ours.width} of the student and "
            f"{theirs.width} of the teacher"
        )
    return heads
