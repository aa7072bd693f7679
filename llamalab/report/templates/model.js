// The formulas of llamalab.analytic (ops, attention_cost, activations, roofline, forecast), for the settings of a page.
// tests/report/test_settings.py holds every one of them to Python's over random settings.
const Model = (() => {
  const TILE = 128, NAIVE_ROOFS = { scores: "gemm", softmax: "copy", values: "gemm" };

  const stored = (data, elements, dtype) => {
    const [bits, group, scale] = data.dtypes[dtype];
    return Math.ceil((elements * bits + (group ? Math.ceil(elements / group) * scale : 0)) / 8);
  };
  const shape = (data, set) => {
    const one = { ...data.arch, n_kv_heads: set.kv_heads };
    one.q_dim = one.n_heads * one.head_dim;
    one.kv_dim = one.n_kv_heads * one.head_dim;
    const full = one.window === null ? one.n_layers : one.full_layers.length;
    one.windows = [[Infinity, full], [one.window, one.n_layers - full]].filter(([, layers]) => layers);
    return one;
  };
  // Keys of all tiles of queries: of each, from the first that its first query sees to its last one's own.
  const keysRead = (fresh, context, window) => {
    let keys = 0;
    for (let start = context - fresh; start < context; start += TILE)
      keys += Math.min(start + TILE, context) - Math.max(0, start - window + 1);
    return keys;
  };
  const keysInView = (fresh, context, window) => fresh + Math.min(context - fresh, window - 1);
  const causalPairs = (fresh, context, window) => {
    const past = context - fresh, growing = Math.min(Math.max(window - past, 0), fresh);
    return growing * past + growing * (growing + 1) / 2 + (growing < fresh ? (fresh - growing) * window : 0);
  };

  // Steps of one attention call: name, causal FLOPs, bytes, bytes moved once.
  const attentionSteps = (data, arch, set, dtype, fresh, whole, window) => {
    const batch = set.batch, width = arch.head_dim, context = keysInView(fresh, whole, window);
    const pairs = batch * arch.n_heads * causalPairs(fresh, context, window);
    const query = stored(data, batch * arch.n_heads * fresh * width, dtype);
    if (set.attention === "naive") {
      const scores = stored(data, batch * arch.n_heads * fresh * context, dtype);
      const keys = stored(data, batch * arch.n_kv_heads * context * width, set.kv);
      return [["scores", 2 * width * pairs, query + keys + scores], ["softmax", 0, 2 * scores],
        ["values", 2 * width * pairs, scores + keys + query]].map(([name, flops, bytes]) => ({ name, flops, bytes, moved: bytes }));
    }
    const streamed = stored(data, 2 * batch * arch.n_kv_heads * width * keysRead(fresh, context, window), set.kv);
    const once = stored(data, 2 * batch * arch.n_kv_heads * context * width, set.kv);
    return [{ name: "flash", flops: 4 * width * pairs, bytes: 2 * query + streamed, moved: 2 * query + once }];
  };

  // The op table of one pass: kind, rate class, count, FLOPs, bytes and bytes moved of one occurrence.
  const forwardOps = (data, set, dtype, fresh, context) => {
    const arch = shape(data, set), rows = set.batch * fresh, layers = arch.n_layers;
    const input = set.weight === "fp8" ? "fp8" : dtype, of = elements => stored(data, elements, dtype), ops = [];
    const add = (name, kind, mode, count, flops, bytes, moved = bytes) => {
      const wide = mode ? `${kind}_${mode}` : kind, roof = NAIVE_ROOFS[name];
      ops.push({ name, kind, rate: roof ? `${wide}_${roof}` : wide, wide, count, flops, bytes, moved });
      return ops[ops.length - 1];
    };
    const gemm = (name, out, inner, bias = false, count = layers, height = rows) => Object.assign(add(name, "gemm",
      height === 1 ? "row" : "", count, 2 * height * out * inner, stored(data, out * inner, set.weight)
      + (bias ? of(out) : 0) + stored(data, height * inner, input) + of(height * out)), { out, inner, height });
    const norm = (name, count, residual) => add(name, "elementwise", residual ? "" : "norm", count, 0,
      of(arch.dim) + 2 * of((residual ? 2 : 1) * rows * arch.dim));
    const narrow = width => input !== dtype && add("quantize", "elementwise", "", layers, 0,
      of(rows * width) + stored(data, rows * width, input));
    const residual = () => add("residual", "elementwise", "", layers, 0, of(2 * rows * arch.dim) + of(rows * arch.dim));
    const headNorms = () => arch.qk_norm && [arch.q_dim, arch.kv_dim].forEach(width =>
      add("head_norm", "elementwise", "norm", layers, 0, of(arch.head_dim) + 2 * of(rows * width)));
    const turned = of(rows * (arch.q_dim + arch.kv_dim)), cached = 2 * rows * arch.kv_dim;
    const { qkv_bias, o_bias, ffn_bias } = arch;

    add("tok_embeddings", "gather", "", 1, 0, 2 * of(rows * arch.dim));
    norm("attention_norm", layers, set.fused);
    narrow(arch.dim);
    if (set.fused) {
      gemm("wqkv", arch.q_dim + 2 * arch.kv_dim, arch.dim, qkv_bias);
      headNorms();
      add("rope_append", "elementwise", "", layers, 0,
        turned + Math.floor(of(cached) / 2) + of(rows * arch.q_dim) + stored(data, cached, set.kv));
    } else {
      gemm("wq", arch.q_dim, arch.dim, qkv_bias);
      gemm("wk", arch.kv_dim, arch.dim, qkv_bias);
      gemm("wv", arch.kv_dim, arch.dim, qkv_bias);
      headNorms();
      add("rope", "elementwise", "rope", layers, 0, 2 * turned);
      add("kv_append", "elementwise", "append", layers, 0, of(cached) + stored(data, cached, set.kv));
    }
    for (const [window, count] of arch.windows)
      for (const step of attentionSteps(data, arch, set, dtype, fresh, context, window))
        add(step.name, "attention", fresh === 1 ? "decode" : "prefill", count, step.flops, step.bytes, step.moved);
    narrow(arch.q_dim);
    gemm("wo", arch.dim, arch.q_dim, o_bias);
    if (!set.fused) residual();
    norm("ffn_norm", layers, set.fused);
    narrow(arch.dim);
    if (set.fused) gemm("w13", 2 * arch.ffn_dim, arch.dim, ffn_bias);
    else for (const name of ["w1", "w3"]) gemm(name, arch.ffn_dim, arch.dim, ffn_bias);
    add("swiglu", "elementwise", "swiglu", layers, 0, of(2 * rows * arch.ffn_dim) + of(rows * arch.ffn_dim));
    narrow(arch.ffn_dim);
    gemm("w2", arch.dim, arch.ffn_dim, ffn_bias);
    if (!set.fused) residual();
    norm("norm", 1, false);
    gemm("output", arch.vocab_size, arch.dim, false, 1, set.batch);
    return ops;
  };

  const seconds = (op, [peak, bandwidth, t0, compute, memory, q]) => {
    const x = peak ? op.flops / peak / compute : 0, y = op.moved / bandwidth / memory, most = Math.max(x, y);
    return t0 + (most ? most * Math.pow(Math.pow(x / most, q) + Math.pow(y / most, q), 1 / q) : 0);
  };

  // What the roofs of a record let an op reach (llamalab.comparison.basis); null where one is not known.
  const roofRates = (roofs, op) => {
    let peak = null, bandwidth = "copy";
    if (op.name === "flash") [peak, bandwidth] = ["attention", "stream"];
    else if (op.kind === "gemm" || op.name === "scores" || op.name === "values") [peak, bandwidth] = ["gemm", "stream"];
    const streams = op.kind === "gemm" || op.kind === "attention";
    if (streams ? roofs.weights_held : roofs.capacity_bytes !== null && op.bytes <= roofs.capacity_bytes) bandwidth = "cache";
    const rates = [peak ? roofs[peak] : null, roofs[bandwidth], roofs.launch, 1, 1, 64];
    return (peak && !rates[0]) || !rates[1] || rates[2] === null ? null : rates;
  };
  const ratesOf = (place, set, op) => {
    const known = set.weight === "fp8" ? { ...place.rates, ...place.narrow } : place.rates;
    const own = known && known[op.rate], rates = known && (own || known[op.wide] || known[op.kind]);
    if (!place.roofs) return rates || null;
    return (NAIVE_ROOFS[op.name] ? own : rates) || roofRates(place.roofs, op);
  };

  // A product with the weight as this machine's kernels keep it (llamalab.analytic.kept_weights).
  const keptOp = (data, kept, dtype, op) => {
    const elements = op.out * op.inner;
    let group = kept.group || op.inner;
    while (group >= 32 && op.inner % group) group /= 2;
    if (op.kind !== "gemm" || (op.name === "output" && data.arch.tied_embeddings) || (kept.group && group < 32)) return op;
    const own = elements * kept.bits / 8 + stored(data, elements / group * kept.constants, dtype);
    const moved = op.moved - stored(data, elements, kept.weight) + own;
    if (kept.rows === null || op.height <= kept.rows)
      return { ...op, moved, bytes: moved, wide: op.height === 1 ? op.wide : "gemm_few", rate: op.height === 1 ? op.rate : "gemm_few" };
    const widened = moved + 2 * stored(data, elements, dtype);
    return { ...op, moved: widened, bytes: widened, wide: "gemm_widened", rate: "gemm_widened" };
  };

  const passSeconds = (data, place, set, fresh, context) => {
    const kept = place.kept && place.kept.weight === set.weight ? place.kept : null;
    let total = 0;
    for (const counted of forwardOps(data, set, place.dtype, fresh, context)) {
      const op = kept ? keptOp(data, kept, place.dtype, counted) : counted;
      const rates = ratesOf(place, set, op);
      if (!rates) return null;
      total += op.count * seconds(op, rates);
    }
    return total;
  };
  // No less than one token or one sequence alone (analytic.forecast.held_pass_s); roofs of a record are not held so.
  const heldSeconds = (data, place, set, fresh, context) => {
    const time = passSeconds(data, place, set, fresh, context);
    if (time === null || place.roofs) return time;
    const alone = { ...set, batch: 1 };
    return Math.max(time, ...[set, alone].flatMap(run => [fresh, 1].map(n => passSeconds(data, place, run, n, context))));
  };
  const decodeContexts = set => {  // Simpson's weights over the growing context
    const first = set.prompt + 1, last = set.prompt + set.generate - 1, sum = first + last, middle = Math.floor(sum / 2);
    if (last < first) return [];
    return sum % 2 ? [[1 / 6, first], [1 / 3, middle], [1 / 3, middle + 1], [1 / 6, last]] : [[1 / 6, first], [2 / 3, middle], [1 / 6, last]];
  };
  // Seconds of the prompt, of a token and of the run, and tokens per second; null where an op has no rates.
  const times = (data, place, set) => {
    const [request, sequence] = place.host || [0, 0], token = set.batch * sequence;
    let prefill = heldSeconds(data, place, set, set.prompt, set.prompt), decode = 0;
    if (prefill === null) return null;
    prefill += request + token;
    const steps = decodeContexts(set);
    for (const [weight, context] of steps) {
      const time = heldSeconds(data, place, set, 1, context);
      if (time === null) return null;
      decode += weight * (time + token);
    }
    const total = prefill + (set.generate - 1) * decode;
    return { prefill_s: prefill, decode_s: steps.length ? decode : null, total_s: total, tokens_per_s: set.batch * set.generate / total };
  };

  const activationBytes = (data, set, dtype) => {
    const arch = shape(data, set), rows = set.batch * set.prompt, turns = stored(data, set.prompt * arch.rotary_dim, "fp32");
    const live = (elements, wide = 0) => turns + stored(data, elements, dtype) + stored(data, wide, "fp32");
    const inputs = rows * (2 * arch.dim + arch.q_dim + 2 * arch.kv_dim), output = stored(data, rows * arch.q_dim, dtype);
    const scores = stored(data, set.batch * arch.n_heads * set.prompt * set.prompt, dtype);
    const call = set.attention === "naive" ? scores + Math.max(scores, output) : output + stored(data, rows * arch.n_heads, "fp32");
    const half = dtype === "fp32" ? 0 : 1, logits = set.batch * arch.vocab_size, wide = stored(data, rows * (arch.dim + half), "fp32");
    const normed = arch.qk_norm ? 2 * stored(data, rows * arch.q_dim, "fp32") + half * output : 0;
    const turned = (1 + half) * stored(data, rows * arch.q_dim, "fp32") + half * output;
    return Math.max(live(rows * arch.dim) + 2 * wide, live(3 * rows * arch.dim) + 2 * wide, live(inputs) + normed, live(inputs) + turned,
      live(inputs) + call, live(inputs + rows * (arch.q_dim + arch.dim)), live(rows * (3 * arch.dim + 4 * arch.ffn_dim)),
      live(rows * (4 * arch.dim + 3 * arch.ffn_dim)), live((rows + set.batch) * arch.dim + logits), live(rows * arch.dim + logits, half * logits));
  };
  // Bytes of weights, of the cache of prompt and generated tokens, and of the largest activations.
  const memory = (data, place, set) => {
    const arch = shape(data, set), { dim, q_dim, kv_dim, ffn_dim, n_layers, vocab_size } = arch, dtype = place.dtype;
    const vector = width => stored(data, width, dtype);
    const product = (rows, columns, bias) => stored(data, rows * columns, set.weight) + (bias ? vector(rows) : 0);
    const norm = vector(dim), headNorms = arch.qk_norm ? 2 * vector(arch.head_dim) : 0;
    const layer = 2 * norm + headNorms + product(q_dim, dim, arch.qkv_bias) + 2 * product(kv_dim, dim, arch.qkv_bias)
      + product(dim, q_dim, arch.o_bias) + 2 * product(ffn_dim, dim, arch.ffn_bias) + product(dim, ffn_dim, arch.ffn_bias);
    const weights = stored(data, vocab_size * dim, dtype) + n_layers * layer + norm + (arch.tied_embeddings ? 0 : product(vocab_size, dim, false));
    const held = ([window, layers]) => stored(data, 2 * layers * kv_dim, set.kv) * Math.min(set.prompt + set.generate, window);
    const kv = set.batch * arch.windows.map(held).reduce((all, one) => all + one);
    return { weight_bytes: weights, kv_bytes: kv, activation_bytes: activationBytes(data, set, dtype) };
  };
  return { forwardOps, times, memory };
})();
