// Activations as whole numbers of 16 bits, with a scale for each run of neighbours.

#pragma once
#include "registers.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace {

constexpr long MOST_RUN = 256;  // products of codes in 8 bits that can be added before 32 bits overflow
constexpr int UNITS = 127 * 256;  // the largest number: its nearest multiple of 256 has a factor of 8 bits

// The largest magnitude of a run: that of a number which is none, where there is one.
inline float largest(const float *from, long run) {
    __m256i most = _mm256_setzero_si256();  // magnitudes are ordered as their bits are
    for (long i = 0; i < run; i += LANES)
        most = _mm256_max_epi32(most, _mm256_and_si256(load(from + i), _mm256_set1_epi32(0x7fffffff)));
    alignas(32) int32_t bits[LANES];
    _mm256_store_si256(reinterpret_cast<__m256i *>(bits), most);
    const int32_t all = *std::max_element(bits, bits + LANES);
    return all < 0x7f800000 ? _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(all))) : NAN;
}

// A run in whole numbers of 16 bits; their sum.
inline int32_t round(const float *from, int16_t *to, long run, float per_unit) {
    const __m256 factor = _mm256_set1_ps(per_unit);
    __m256i total = _mm256_setzero_si256();
    for (long i = 0; i < run; i += 2 * LANES) {
        const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(wide(from + i), factor));
        const __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(wide(from + i + LANES), factor));
        const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + i), both);
        total = _mm256_add_epi32(total, _mm256_add_epi32(low, high));
    }
    alignas(32) int32_t parts[LANES];
    _mm256_store_si256(reinterpret_cast<__m256i *>(parts), total);
    return std::accumulate(parts, parts + LANES, 0);
}

// The longest run that divides a group and is no longer than MOST_RUN.
inline long run_of(long group) {
    long run = std::min(group, MOST_RUN);
    while (group % run) run -= 32;
    return run;
}

// Rows of x in 16 bits, with a scale for each run. `start` is what a run's sums begin with where codes are stored with
// an excess, so that they are not negative.
struct Rounded {
    long run, runs;
    std::vector<int16_t> x;
    std::vector<float> scales;
    std::vector<int32_t> start;

    Rounded(const float *from, long rows, long inner, long group, int excess)
        : run(run_of(group)), runs(inner / run), x(rows * inner), scales(rows * runs), start(rows * runs) {
        for (long r = 0; r < rows * runs; r++) {
            const float most = largest(from + r * run, run);
            scales[r] = most / UNITS;
            start[r] = -excess * round(from + r * run, x.data() + r * run, run, most > 0 ? UNITS / most : 0);
        }
    }
};

}  // namespace
