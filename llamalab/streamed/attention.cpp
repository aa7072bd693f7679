// Attention of one query a head: keys and values are read once, as they come from memory.
//
// A task is a run of keys of one KV head, for all query heads that share it: its largest score, the sum of its weights
// and what they weigh together; the runs of a head are joined at the end, as flash decoding does. In fp32 throughout.
//
// N = B K KV heads of all sequences, G query heads of each, S keys, E head dim (whole times 16).

#include "registers.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

namespace {

constexpr long KEYS = 256;  // of a task: they stay in the second cache with their values
constexpr long STEP = 2 * LANES, TOGETHER = 4;

// exp of 8 numbers that are not above 0: 2^n e^r with |r| <= ln 2 / 2, of r the series to the sixth power.
__m256 exp8(__m256 x) {
    x = _mm256_max_ps(_mm256_set1_ps(-87), x);  // in this order what is no number stays none
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
    const __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x));
    __m256 sum = _mm256_set1_ps(1.0f / 720);
    for (float next : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(next));
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23)));
}

// Scores of one key for H query heads, whose queries lie one after the other; scores lie KEYS apart.
template <class T, int H> void dots(const float *q, const T *key, float *scores, long dim) {
    __m256 even[H], odd[H];
    for (int h = 0; h < H; h++) even[h] = odd[h] = _mm256_setzero_ps();
    for (long e = 0; e < dim; e += STEP) {
        __m256 first, second;
        widen(key + e, first, second);
        for (int h = 0; h < H; h++) {
            even[h] = _mm256_fmadd_ps(first, wide(q + h * dim + e), even[h]);
            odd[h] = _mm256_fmadd_ps(second, wide(q + h * dim + e + LANES), odd[h]);
        }
    }
    for (int h = 0; h < H; h++) scores[h * KEYS] = sum(_mm256_add_ps(even[h], odd[h]));
}

// z += weights of `count` values, at most TOGETHER, that lie `stride` apart, for H query heads: their z lie `apart`.
template <class T, int H>
void add_values(float *z, long apart, const float *weights, const T *values, long stride, long count, long dim) {
    for (long e = 0; e < dim; e += STEP) {
        __m256 even[H], odd[H];
        for (int h = 0; h < H; h++) {
            even[h] = wide(z + h * apart + e);
            odd[h] = wide(z + h * apart + e + LANES);
        }
        for (long s = 0; s < count; s++) {
            __m256 first, second;
            widen(values + s * stride + e, first, second);
            for (int h = 0; h < H; h++) {
                const __m256 weight = _mm256_broadcast_ss(weights + h * KEYS + s);
                even[h] = _mm256_fmadd_ps(first, weight, even[h]);
                odd[h] = _mm256_fmadd_ps(second, weight, odd[h]);
            }
        }
        for (int h = 0; h < H; h++) {
            _mm256_storeu_ps(z + h * apart + e, even[h]);
            _mm256_storeu_ps(z + h * apart + e + LANES, odd[h]);
        }
    }
}

// of(head, H) for all heads of a group, as many together as share a key in registers.
template <class Of> void in_fours(long group, Of of) {
    long h = 0;
    for (; h + 4 <= group; h += 4) of(h, std::integral_constant<int, 4>());
    for (; h + 2 <= group; h += 2) of(h, std::integral_constant<int, 2>());
    for (; h < group; h++) of(h, std::integral_constant<int, 1>());
}

struct Part { float largest, weight; };

// Scores become weights beside their largest; what lies beyond `count`, up to whole registers, is overwritten.
Part weigh(float *scores, long count) {
    const float largest = *std::max_element(scores, scores + count);
    const long whole = (count + LANES - 1) / LANES * LANES;
    std::fill(scores + count, scores + whole, -INFINITY);
    __m256 total = _mm256_setzero_ps();
    for (long s = 0; s < whole; s += LANES) {
        const __m256 made = exp8(_mm256_sub_ps(wide(scores + s), _mm256_set1_ps(largest)));
        _mm256_storeu_ps(scores + s, made);
        total = _mm256_add_ps(total, made);
    }
    return {largest, sum(total)};
}

template <class T>
void attend(const float *q, const T *k, const T *v, float *z, const long *k_strides, const long *v_strides, long batch,
            long kv_heads, long group, long keys, long dim, float scale, int threads) {
    const long runs = (keys + KEYS - 1) / KEYS, heads = batch * kv_heads * group;
    std::vector<float> laid(heads * dim), made(heads * runs * dim);
    std::vector<Part> parts(heads * runs);
    for (long h = 0; h < heads; h++)
        for (long e = 0; e < dim; e++) laid[h * dim + place<T>(e)] = q[h * dim + e] * scale;
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> scores(group * KEYS);
#pragma omp for schedule(dynamic)
        for (long task = 0; task < batch * kv_heads * runs; task++) {
            const long n = task / runs, run = task % runs, begin = run * KEYS, count = std::min(KEYS, keys - begin);
            const T *own_k = k + n / kv_heads * k_strides[0] + n % kv_heads * k_strides[1] + begin * k_strides[2];
            const T *own_v = v + n / kv_heads * v_strides[0] + n % kv_heads * v_strides[1] + begin * v_strides[2];
            for (long s = 0; s < count; s++)
                in_fours(group, [&](long g, auto heads_of) {
                    dots<T, heads_of()>(&laid[(n * group + g) * dim], own_k + s * k_strides[2], &scores[g * KEYS + s], dim);
                });
            for (long g = 0; g < group; g++) parts[(n * group + g) * runs + run] = weigh(&scores[g * KEYS], count);
            for (long s = 0; s < count; s += TOGETHER)
                in_fours(group, [&](long g, auto heads_of) {
                    add_values<T, heads_of()>(&made[((n * group + g) * runs + run) * dim], runs * dim, &scores[g * KEYS + s],
                                              own_v + s * v_strides[2], v_strides[2], std::min(TOGETHER, count - s), dim);
                });
        }
    }
    for (long h = 0; h < heads; h++) {
        const Part *own = &parts[h * runs];
        float largest = own[0].largest, total = 0;
        for (long run = 1; run < runs; run++) largest = std::max(largest, own[run].largest);
        for (long run = 0; run < runs; run++) total += own[run].weight * std::exp(own[run].largest - largest);
        std::fill(z + h * dim, z + (h + 1) * dim, 0.0f);
        for (long run = 0; run < runs; run++) {
            const float share = std::exp(own[run].largest - largest) / total;
            for (long e = 0; e < dim; e++) z[h * dim + e] += share * made[(h * runs + run) * dim + place<T>(e)];
        }
    }
}

}  // namespace

#define ATTEND(T)                                                                                                      \
    extern "C" void attend_##T(const float *q, const T *k, const T *v, float *z, const long *k_strides,                \
                               const long *v_strides, long batch, long kv_heads, long group, long keys, long dim,      \
                               float scale, int threads) {                                                             \
        attend(q, k, v, z, k_strides, v_strides, batch, kv_heads, group, keys, dim, scale, threads);                   \
    }
using fp32 = float;
ATTEND(fp32)
ATTEND(bf16)
ATTEND(fp16)
