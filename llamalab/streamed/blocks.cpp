// A few rows x times codes of 8 or 4 bits, y = x W^T, by AVX-512 VNNI.
//
// 16 rows of the weight are a block: four codes of each lie side by side in 64 bytes, so that a register holds the sums
// of 16 outputs, nothing is added across its lanes, and the 16 scales of a group are one read. One instruction adds four
// products of unsigned by signed numbers of 8 bits to each lane: codes are stored with an excess that makes them
// positive, and x of 16 bits is 256 * high + low, multiplied one after the other. All sums are exact.
//
// M rows of x, O out features (a multiple of 16), I in features.

#ifdef __AVX512VNNI__

#include "registers.h"
#include "rounded.h"

#include <cstring>
#include <vector>

namespace {

constexpr long ROWS = 16, STEP = 8;  // rows of a block, codes of a row in one step of the loop
constexpr long AHEAD = 2048;         // bytes: a core alone does not ask memory for enough at once
constexpr long SHARE = 4;            // blocks that a thread takes

// x of 16 bits in two halves.
struct Halves {
    std::vector<int8_t> high, low;

    explicit Halves(const std::vector<int16_t> &x) : high(x.size()), low(x.size()) {
        for (size_t i = 0; i < x.size(); i++) {
            high[i] = static_cast<int8_t>((x[i] + 128) >> 8);
            low[i] = static_cast<int8_t>(x[i] - 256 * high[i]);
        }
    }
};

__m512 wide16(const bf16 *from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load(from)), 16));
}
__m512 wide16(const fp16 *from) { return _mm512_cvtph_ps(load(from)); }

__m512i four_of_x(const int8_t *x) {
    int32_t bytes;
    std::memcpy(&bytes, x, sizeof bytes);
    return _mm512_set1_epi32(bytes);
}

struct Eight {
    static constexpr int BYTES = ROWS * STEP, EXCESS = 128;
    static void read(const uint8_t *w, __m512i &first, __m512i &second) {
        first = _mm512_loadu_si512(w);
        second = _mm512_loadu_si512(w + 64);
    }
};
struct Four {  // low halves are the first four codes of a step
    static constexpr int BYTES = ROWS * STEP / 2, EXCESS = 8;
    static void read(const uint8_t *w, __m512i &first, __m512i &second) {
        const __m512i pairs = _mm512_loadu_si512(w), low = _mm512_set1_epi8(15);
        first = _mm512_and_si512(pairs, low);
        second = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), low);
    }
};

// 16 outputs of M rows of x, from row m on.
template <class Bits, int M, class T>
void block(const uint8_t *w, const T *scales, const Rounded &x, const Halves &halves, long m, long each, float *y, long out) {
    const int8_t *high = halves.high.data() + m * x.runs * x.run, *low = halves.low.data() + m * x.runs * x.run;
    const long inner = x.runs * x.run;
    __m512 total[M];
    for (int n = 0; n < M; n++) total[n] = _mm512_setzero_ps();
    for (long r = 0; r < x.runs; r++) {
        __m512i sums[M][4];
        for (int n = 0; n < M; n++) {
            sums[n][0] = sums[n][1] = sums[n][3] = _mm512_setzero_si512();
            sums[n][2] = _mm512_set1_epi32(x.start[(m + n) * x.runs + r]);
        }
        for (long i = 0; i < x.run; i += STEP, w += Bits::BYTES, high += STEP, low += STEP) {
            for (long line = 0; line < Bits::BYTES; line += 64)
                _mm_prefetch(reinterpret_cast<const char *>(w + AHEAD + line), _MM_HINT_T0);
            __m512i first, second;
            Bits::read(w, first, second);
            for (int n = 0; n < M; n++) {
                const int8_t *own_high = high + n * inner, *own_low = low + n * inner;
                sums[n][0] = _mm512_dpbusd_epi32(sums[n][0], first, four_of_x(own_high));
                sums[n][1] = _mm512_dpbusd_epi32(sums[n][1], second, four_of_x(own_high + 4));
                sums[n][2] = _mm512_dpbusd_epi32(sums[n][2], first, four_of_x(own_low));
                sums[n][3] = _mm512_dpbusd_epi32(sums[n][3], second, four_of_x(own_low + 4));
            }
        }
        const __m512 scale = wide16(scales + r / each * ROWS);
        for (int n = 0; n < M; n++) {
            const __m512i of_high = _mm512_slli_epi32(_mm512_add_epi32(sums[n][0], sums[n][1]), 8);
            const __m512i all = _mm512_add_epi32(of_high, _mm512_add_epi32(sums[n][2], sums[n][3]));
            const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(x.scales[(m + n) * x.runs + r]));
            total[n] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(all), both, total[n]);
        }
    }
    for (int n = 0; n < M; n++) _mm512_storeu_ps(y + (m + n) * out, total[n]);
}

template <class Bits, class T>
void blocks(const float *x, const uint8_t *w, const T *scales, float *y, long rows, long out, long inner, long group,
            int threads) {
    const Rounded rounded(x, rows, inner, group, Bits::EXCESS);
    const Halves halves(rounded.x);
    const long each = group / rounded.run, bytes = inner / STEP * Bits::BYTES, groups = inner / group;
#pragma omp parallel for schedule(dynamic, SHARE) num_threads(threads)
    for (long o = 0; o < out; o += ROWS) {
        const uint8_t *codes = w + o / ROWS * bytes;
        const T *own = scales + o * groups;
        long m = 0;
        for (; m + 4 <= rows; m += 4) block<Bits, 4>(codes, own, rounded, halves, m, each, y + o, out);
        for (; m + 2 <= rows; m += 2) block<Bits, 2>(codes, own, rounded, halves, m, each, y + o, out);
        for (; m < rows; m++) block<Bits, 1>(codes, own, rounded, halves, m, each, y + o, out);
    }
}

}  // namespace

#define BLOCKS(NAME, BITS, T)                                                                                          \
    extern "C" void NAME##_blocks_##T(const float *x, const uint8_t *w, const T *scales, float *y, long rows, long out, \
                                      long inner, long group, int threads) {                                           \
        blocks<BITS>(x, w, scales, y, rows, out, inner, group, threads);                                               \
    }
BLOCKS(int8, Eight, bf16)
BLOCKS(int8, Eight, fp16)
BLOCKS(int4, Four, bf16)
BLOCKS(int4, Four, fp16)

#endif
