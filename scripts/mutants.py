"""Which mistakes of the builder, the passes, the emitters and the buckets must not go unnoticed?

Each is one exact replacement in one source, which compiles and makes modules that load, but mean something
else. `judge` is who is asked first (check_mutants.py); whoever is asked next may notice it too.
"""

from dataclasses import dataclass

M2M100 = "src/models/m2m100.cc"
LEGALIZE = "src/passes/legalize.cc"
ATTENTION = "src/passes/legalize_attention.cc"
TOP_K = "src/passes/legalize_top_k.cc"
SHARD = "src/passes/shard.cc"
STATIC_WEIGHTS = "src/passes/static_weights.cc"
EMIT = "src/backends/xla/emit_hlo.cc"
STABLEHLO = "src/backends/xla/emit_stablehlo.cc"
BUCKETS = "src/translate/buckets.cc"
COLUMNS = "src/translate/bucket_columns.cc"
SEARCH = "src/translate/beam_search.cc"


@dataclass
class Mutant:
    name: str
    file: str
    old: str  # stands there once
    new: str
    judge: str = "units"


MUTANTS = [
    # --- the builder: the phases of every target mean the same wrong thing, so transformers is asked
    Mutant("unscaled q", M2M100, "static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)))", "head_dim > 0 ? 1.0F : 0.0F", "tokens"),
    Mutant(
        "K and V of the encoder swapped",
        M2M100,
        'project(layer + ".self_attn.k_proj", h),\n                                    project(layer + ".self_attn.v_proj", h), start',
        'project(layer + ".self_attn.v_proj", h),\n                                    project(layer + ".self_attn.k_proj", h), start',
        "tokens",
    ),
    Mutant("K of the decoder made by V's weights", M2M100, 'cache_type()), project(layer + ".self_attn.k_proj", h)', 'cache_type()), project(layer + ".self_attn.v_proj", h)', "tokens"),
    Mutant("memory's V made by K's weights", M2M100, 'project(layer + ".v_proj", hidden)', 'project(layer + ".k_proj", hidden)', "tokens"),
    Mutant("memory's values read as keys", M2M100, 'input(g, "memory_" + keys, memory_type())', 'input(g, "memory_" + values, memory_type())', "tokens"),
    Mutant("swapped parameters of norms", M2M100, 'tensor(name + ".weight"), tensor(name + ".bias"), kLayerNormEps', 'tensor(name + ".bias"), tensor(name + ".weight"), kLayerNormEps', "tokens"),
    Mutant("cross-attention without its residual", M2M100, 'x = plus(project(layer + ".encoder_attn.out_proj", mixed), x);', 'x = project(layer + ".encoder_attn.out_proj", mixed);', "tokens"),
    Mutant("no last norm of the decoder", M2M100, 'output_projection(norm("model.decoder.layer_norm", x))', "output_projection(x)", "tokens"),
    Mutant("an embedding that is scaled where it is not", M2M100, "= config_.scale_embedding\n", "= !config_.scale_embedding\n", "tokens"),
    Mutant("another layer's norm", M2M100, 'norm(layer + ".encoder_attn_layer_norm", x)', 'norm(layer + ".self_attn_layer_norm", x)', "tokens"),
    # --- searches
    Mutant("parent ignored", SEARCH, "needs_.parents.push_back(candidate.row);", "needs_.parents.push_back(0);", "tokens"),
    # --- the legaliser
    Mutant("position + 1", LEGALIZE, "gather_rows(a.g, node.inputs[3], node.inputs[1])", "gather_rows(a.g, node.inputs[3], a.op(Op::add, node.inputs[1], 1.0))"),
    Mutant("no residual of a fused linear", LEGALIZE, "return node.inputs.size() > 3 ? a.op(Op::add, y, node.inputs[3]) : y;", "return y;"),
    Mutant("a missing clamp of writes", LEGALIZE, "node.inputs[1], clamped(out, node.inputs[2], rows()))", "node.inputs[1], node.inputs[2])", "dialects"),
    Mutant("a missing clamp of reads", LEGALIZE, "gather_rows(out, node.inputs[0], clamped(out, node.inputs[1], rows()))", "gather_rows(out, node.inputs[0], node.inputs[1])", "dialects"),
    Mutant("a clamp one too high", LEGALIZE, "static_cast<double>(rows - 1)", "static_cast<double>(rows)"),
    Mutant("a clamp that takes the first for the last", LEGALIZE, "a.op(Op::minimum, a.op(Op::maximum, index, 0.0), static_cast<double>(rows - 1))", "a.op(Op::minimum, a.op(Op::maximum, index, 1.0), static_cast<double>(rows - 1))"),
    Mutant("an embedding that is not scaled", LEGALIZE, "a.op(Op::multiply, x, node.attrs.scale)", "x"),
    Mutant("scores that are not scaled", ATTENTION, "a.op(Op::multiply, dot(g, q, keys), node.attrs.scale)", "dot(g, q, keys)"),
    Mutant(
        "a mask off by one",
        ATTENTION,
        "const Value length = reshape(g, node.inputs[4], {groups.count, groups.rows});",
        "const Value length = a.op(Op::add, reshape(g, node.inputs[4], {groups.count, groups.rows}), 1.0);",
    ),
    Mutant("history ignored", ATTENTION, "gather_rows(g, cache, node.inputs[3])", "gather_rows(g, cache, iota(g, {DType::s32, {rows, listed}}, 1))"),
    Mutant("slot ignored", ATTENTION, "{runs, rows * d}), list)", "{runs, rows * d}), iota(g, g.type(list), 0))"),
    Mutant("heads not put back beside each other", ATTENTION, "return reshape(g, transpose(g, mixed, {0, 2, 1, 3}), node.types[0].shape);", "return reshape(g, mixed, node.types[0].shape);"),
    Mutant("filled up with zeros", TOP_K, "top_k(a.g, widened(a, x, width, kLowest), k)", "top_k(a.g, widened(a, x, width, 0.0), k)"),
    Mutant("parts that begin one column early", TOP_K, "static_cast<double>(width));", "static_cast<double>(width - 1));"),
    Mutant("too few kept of each part", TOP_K, "std::min(k, width)", "std::min((k + 1) / 2 + 1, width)"),
    Mutant("the table of positions begins at 1", STATIC_WEIGHTS, "const Value all = iota(out, {DType::s32, {positions}}, 0);", "const Value all = slice(out, iota(out, {DType::s32, {positions + 1}}, 0), 0, 1, positions);"),
    # --- ranks
    Mutant("rows of the next rank", SHARD, "slice(out, whole, 0, rank * size, size)", "slice(out, whole, 0, (rank + 1) % parts.ranks * size, size)"),
    Mutant("the first rank's columns for all", SHARD, "slice(out, whole, 1, rank * type.size(1), type.size(1))", "slice(out, whole, 1, 0, type.size(1))"),
    Mutant("positions added by every rank", SHARD, "select_less(out, first, a.fill(1, type), positions, none)", "select_less(out, first, a.fill(1e9, type), positions, none)"),
    Mutant("ids of the ranks before read a rank's first row", SHARD, "select_less(out, local, a.fill(0, type), a.fill(last, type), local)", "select_less(out, local, a.fill(0, type), a.fill(0, type), local)"),
    Mutant("every rank's ids begin at 0", SHARD, "return {a.fill(static_cast<double>(parts.first(rank)), type)};", "return {a.fill(static_cast<double>(parts.first(0)), type)};"),
    Mutant("nothing banned", SHARD, "rows(kLowest, size - held)", "rows(0, size - held)", "ranks"),
    Mutant("a rank's ids not shifted by its first", COLUMNS, "named.push_back(found[i] + static_cast<int32_t>(parts_.first(rank)));", "named.push_back(found[i]);"),
    Mutant("the largest of ranks' sums for the sum of all", COLUMNS, "parts.size() == 1 ? most", "!parts.empty() ? most"),
    Mutant("a sum without the last rank", EMIT, "rank < node.attrs.dims[0]; ++rank", "rank + 1 < node.attrs.dims[0]; ++rank"),
    # --- the emitters
    Mutant("a wrong alias index", EMIT, "alias.add_output_shape_index(static_cast<int64_t>(i));", "alias.add_output_shape_index(static_cast<int64_t>(i ^ 1));"),
    Mutant("swapped branches of a mask", EMIT, "{less.id(), in(node, 2), in(node, 3)}", "{less.id(), in(node, 3), in(node, 2)}"),
    Mutant("less or equal for less", EMIT, 'less.set_comparison_direction("LT")', 'less.set_comparison_direction("LE")'),
    Mutant("the worst for the best", EMIT, 'greater.set_comparison_direction("GT")', 'greater.set_comparison_direction("LT")'),
    Mutant("an unstable sort", EMIT, "sorted.set_is_stable(true);", "sorted.set_is_stable(false);"),
    Mutant("one candidate more from the custom call", EMIT, "fmt::to_string(node.types[0].size(1))", "fmt::to_string(node.types[0].size(1) + 1)"),
    Mutant("slices that begin at 0", EMIT, "cut.set_start(i == node.attrs.axis ? node.attrs.begin : 0);", "cut.set_start(0);"),
    Mutant("the largest of a row and 0", EMIT, "node.op == Op::reduce_sum ? 0.0 : double{-FLT_MAX}", "0.0"),
    Mutant("StableHLO: less or equal for less", STABLEHLO, '"{comparison_direction = #stablehlo<comparison_direction LT>}"', '"{comparison_direction = #stablehlo<comparison_direction LE>}"', "stablehlo"),
    Mutant("StableHLO: an alias of the next output", STABLEHLO, "outputs.at(node.attrs.name))", "outputs.at(node.attrs.name) ^ 1)", "stablehlo"),
    Mutant("StableHLO: swapped branches of a mask", STABLEHLO, "{less, at(node.inputs[2]), at(node.inputs[3])}", "{less, at(node.inputs[3]), at(node.inputs[2])}", "stablehlo"),
    # --- what feeds the modules
    Mutant("idle rows write the first cache row", BUCKETS, "placed.writes.assign(placed.rows.size(), sizes_.sink());", "placed.writes.assign(placed.rows.size(), 0);"),
    Mutant("a sentence's rows in the next free place", BUCKETS, "own_place ? static_cast<size_t>(slot)", "own_place && slot < 0 ? static_cast<size_t>(slot)"),
    Mutant("every token of a source at the first's position", BUCKETS, "integers(inputs[1])[sentence.first + i]", "integers(inputs[1])[sentence.first]"),
    Mutant("idle sentences repeat none", BUCKETS, 'columns.add("memory_index", index[sentence.first] + static_cast<int32_t>(i));', 'columns.add("memory_index", static_cast<size_t>(s) < some.size() ? index[sentence.first] + static_cast<int32_t>(i) : static_cast<int32_t>(i));'),
    Mutant("a history that is one row off", BUCKETS, "history[static_cast<size_t>(row * context + t)]", "history[static_cast<size_t>(row * context + (t > 0 ? t - 1 : 0))]"),
    Mutant("among equals the higher id", COLUMNS, "id(a) < id(b)", "id(a) > id(b)"),
]  # fmt: skip
