// A few rows x times a weight, y = x W^T, at the rate at which the weight comes from memory.
//
// x_MI and y_MO are fp32; the weight lies row by row. Threads take runs of its rows as they get done with the last, so
// that one which is held up holds up no other for long. AVX2 is enough: what these loops wait for is memory.
//
// Plain weights are widened to fp32 as they are read. Codes of 8 and 4 bits are multiplied as whole numbers of 16 bits:
// x is rounded once to 15 bits beside the largest of each run of a group (an error of 2e-5 where bf16 has 4e-3), 16
// products are added in pairs by one instruction, and a run's sum in 32 bits is exact. With AVX-512 VNNI codes lie in
// blocks instead (blocks.cpp).
//
// M rows of x, O out features, I in features.

#include "registers.h"
#include "rounded.h"

#include <algorithm>
#include <vector>

namespace {

constexpr long TOGETHER = 4, RUN = 64;       // rows that share x, rows that a thread takes
constexpr long UNIT = 32;                    // codes read at once

float one(fp16 from) { return _cvtsh_ss(from.bits); }
float one(bf16 from) { return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(from.bits << 16))); }

template <class T, int N> void several(const float *x, const T *w, float *y, long inner) {
    __m256 even[N], odd[N];
    for (int n = 0; n < N; n++) even[n] = odd[n] = _mm256_setzero_ps();
    for (long i = 0; i < inner; i += 2 * LANES) {
        const __m256 x_even = _mm256_loadu_ps(x + i), x_odd = _mm256_loadu_ps(x + i + LANES);
        for (int n = 0; n < N; n++) {
            __m256 first, second;
            widen(w + n * inner + i, first, second);
            even[n] = _mm256_fmadd_ps(first, x_even, even[n]);
            odd[n] = _mm256_fmadd_ps(second, x_odd, odd[n]);
        }
    }
    for (int n = 0; n < N; n++) y[n] = sum(_mm256_add_ps(even[n], odd[n]));
}

template <class T> void plain(const float *x, const T *w, float *y, long rows, long out, long inner, int threads) {
    std::vector<float> laid(rows * inner);
    for (long m = 0; m < rows; m++)
        for (long i = 0; i < inner; i++) laid[m * inner + place<T>(i)] = x[m * inner + i];
#pragma omp parallel for schedule(dynamic, RUN / TOGETHER) num_threads(threads)
    for (long o = 0; o < out; o += TOGETHER)
        for (long m = 0; m < rows; m++) {
            const float *own = laid.data() + m * inner;
            if (o + TOGETHER <= out) several<T, TOGETHER>(own, w + o * inner, y + m * out + o, inner);
            else for (long n = o; n < out; n++) several<T, 1>(own, w + n * inner, y + m * out + n, inner);
        }
}

__m256i add_products(__m256i sums, __m256i codes, const int16_t *x) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(codes, load(x)));
}
struct Eight {
    static constexpr int BYTES = UNIT, EXCESS = 0;
    static void add(const uint8_t *w, const int16_t *x, __m256i &first, __m256i &second) {
        first = add_products(first, _mm256_cvtepi8_epi16(load_half(w)), x);
        second = add_products(second, _mm256_cvtepi8_epi16(load_half(w + 16)), x + 16);
    }
};
struct Four {  // low halves of 16 bytes are the first 16 of 32 codes
    static constexpr int BYTES = UNIT / 2, EXCESS = 8;
    static void add(const uint8_t *w, const int16_t *x, __m256i &first, __m256i &second) {
        const __m256i pairs = _mm256_cvtepu8_epi16(load_half(w));
        first = add_products(first, _mm256_and_si256(pairs, _mm256_set1_epi16(15)), x);
        second = add_products(second, _mm256_srli_epi16(pairs, 4), x + 16);
    }
};

template <class Bits, long FIXED> float coded_row(const uint8_t *w, const float *scales, const Rounded &x, long m) {
    const long run = FIXED ? FIXED : x.run;
    const int16_t *own = x.x.data() + m * x.runs * run;
    __m256 total = _mm256_setzero_ps();
    for (long r = 0; r < x.runs; r++) {
        __m256i first = _mm256_zextsi128_si256(_mm_cvtsi32_si128(x.start[m * x.runs + r])), second = _mm256_setzero_si256();
        for (long i = 0; i < run; i += UNIT, own += UNIT, w += Bits::BYTES) Bits::add(w, own, first, second);
        total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(first, second)), _mm256_set1_ps(scales[r]), total);
    }
    return sum(total);
}

template <class Bits, class T>
void coded(const float *x, const uint8_t *w, const T *scales, float *y, long rows, long out, long inner, long group,
           int threads) {
    const Rounded rounded(x, rows, inner, group, Bits::EXCESS);
    const long run = rounded.run, runs = rounded.runs, groups = inner / group, each = group / run;
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> both(runs);  // the scales of codes times those of x
#pragma omp for schedule(dynamic, RUN)
        for (long o = 0; o < out; o++)
            for (long m = 0; m < rows; m++) {
                const T *own = scales + o * groups;
                const float *of_x = rounded.scales.data() + m * runs;
                long r = 0;
                if (each == 1)
                    for (; r + LANES <= runs; r += LANES)
                        _mm256_storeu_ps(&both[r], _mm256_mul_ps(wide(own + r), _mm256_loadu_ps(of_x + r)));
                for (; r < runs; r++) both[r] = one(own[r / each]) * of_x[r];
                const uint8_t *codes = w + o * inner / UNIT * Bits::BYTES;
                y[m * out + o] = run == UNIT ? coded_row<Bits, UNIT>(codes, both.data(), rounded, m)
                                             : coded_row<Bits, 0>(codes, both.data(), rounded, m);
            }
    }
}

}  // namespace

#define PLAIN(T)                                                                                                       \
    extern "C" void plain_##T(const float *x, const T *w, float *y, long rows, long out, long inner, int threads) {    \
        plain(x, w, y, rows, out, inner, threads);                                                                     \
    }
#define CODED(NAME, BITS, T)                                                                                           \
    extern "C" void NAME##_##T(const float *x, const uint8_t *w, const T *scales, float *y, long rows, long out,       \
                               long inner, long group, int threads) {                                                  \
        coded<BITS>(x, w, scales, y, rows, out, inner, group, threads);                                                \
    }
using fp32 = float;
PLAIN(fp32)
PLAIN(bf16)
PLAIN(fp16)
CODED(int8, Eight, bf16)
CODED(int8, Eight, fp16)
CODED(int4, Four, bf16)
CODED(int4, Four, fp16)
