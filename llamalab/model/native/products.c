/* Products of a few rows with a weight of (out, inner) that is read once, at the rate of memory.

   Activations and results are bfloat16. Sums of bfloat16 weights are fp32. Codes of 8 and 4 bits meet activations in two
   int8 parts, x = scale * (128 * high + low) with a scale for every 128 inputs: 15 bits, more than bfloat16 has, and
   whole numbers that the machine multiplies and adds four at a time (VPDPBUSD).

   codes of 8 bits   a byte each, 128 too large
   codes of 4 bits   in blocks of 32: byte j has code j in its low half, code j + 16 in its high one, 8 too large
   scales, offsets   bfloat16, one for each group of a row: weight = scale * code + offset */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static inline float wide(uint16_t half) {
  uint32_t bits = (uint32_t)half << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline uint16_t narrow(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0; /* not a number */
  return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

#if defined(__AVX512F__)
#include <immintrin.h>
#endif
#define ALWAYS __attribute__((always_inline)) static inline

#if defined(__AVX512BF16__)
enum { MOST_AT_ONCE = 8, STEP = 32 };

ALWAYS __m512bh bf16_32(const uint16_t *from) { return (__m512bh)_mm512_loadu_si512(from); }

/* One row of a weight with `count` sequences, whose inputs follow one another. */
ALWAYS void dots(int count, const uint16_t *own, const uint16_t *x, float *sums, long inner) {
  __m512 total[MOST_AT_ONCE];
  for (int r = 0; r < count; r++) total[r] = _mm512_setzero_ps();
  for (long i = 0; i < inner; i += STEP) {
    __m512bh weights = bf16_32(own + i);
    for (int r = 0; r < count; r++) total[r] = _mm512_dpbf16_ps(total[r], weights, bf16_32(x + r * inner + i));
  }
  for (int r = 0; r < count; r++) sums[r] = _mm512_reduce_add_ps(total[r]);
}

static void some_dots(long count, const uint16_t *own, const uint16_t *x, float *sums, long inner) {
  switch (count) {
    case 1: dots(1, own, x, sums, inner); break;
    case 2: dots(2, own, x, sums, inner); break;
    case 3: dots(3, own, x, sums, inner); break;
    case 4: dots(4, own, x, sums, inner); break;
    case 5: dots(5, own, x, sums, inner); break;
    case 6: dots(6, own, x, sums, inner); break;
    case 7: dots(7, own, x, sums, inner); break;
    default: dots(8, own, x, sums, inner);
  }
}
#else
enum { MOST_AT_ONCE = 1, STEP = 1 };

static void some_dots(long count, const uint16_t *own, const uint16_t *x, float *sums, long inner) {
  float sum = 0;
  (void)count;
#pragma omp simd reduction(+ : sum)
  for (long i = 0; i < inner; i++) sum += wide(own[i]) * wide(x[i]);
  *sums = sum;
}
#endif

/* The most sequences whose inputs a weight meets while it is read once, and what `inner` must be a multiple of. */
int llamalab_bf16_rows(void) { return MOST_AT_ONCE; }
int llamalab_bf16_step(void) { return STEP; }

void llamalab_bf16(const uint16_t *weight, const uint16_t *x, uint16_t *y, long rows, long out, long inner) {
#pragma omp parallel for schedule(dynamic, 64)
  for (long o = 0; o < out; o++)
    for (long first = 0; first < rows; first += MOST_AT_ONCE) {
      float sums[MOST_AT_ONCE];
      long count = rows - first < MOST_AT_ONCE ? rows - first : MOST_AT_ONCE;
      some_dots(count, weight + o * inner, x + first * inner, sums, inner);
      for (long r = 0; r < count; r++) y[(first + r) * out + o] = narrow(sums[r]);
    }
}

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
enum { BLOCK = 128, LANES = 16, AHEAD = 2048 };

/* One block of 128 inputs in the order of the codes: for each of two vectors of codes its parts, and in every lane of 4
   what the zero of the codes adds too much: of either vector for 8 bits, of both together for 4. */
typedef struct {
  _Alignas(64) int8_t high[2][64];
  int8_t low[2][64];
  int32_t excess[2][LANES];
  float scale;
} Block;

static inline int place(int bits, int vector, int at) { /* which input of a block lies there */
  return bits == 8 ? vector * 64 + at : at / 16 * 32 + vector * 16 + at % 16;
}

static void in_parts(const uint16_t *x, Block *block, int bits) {
  float in[BLOCK], most = 0;
  int32_t all[BLOCK];
  for (int i = 0; i < BLOCK; i++) in[i] = wide(x[i]);
  for (int i = 0; i < BLOCK; i++) most = fmaxf(most, fabsf(in[i]));
  float each = most > 0 ? 16256 / most : 0;
  block->scale = most / 16256;
  for (int i = 0; i < BLOCK; i++) all[i] = (int32_t)(in[i] * each + (in[i] < 0 ? -0.5f : 0.5f));
  memset(block->excess, 0, sizeof block->excess);
  for (int vector = 0; vector < 2; vector++)
    for (int at = 0; at < 64; at++) {
      int32_t whole = all[place(bits, vector, at)], high = (whole + 64) >> 7;
      block->high[vector][at] = (int8_t)high;
      block->low[vector][at] = (int8_t)(whole - 128 * high);
      block->excess[bits == 8 ? vector : 0][at / 4] += (bits == 8 ? 128 : 8) * whole;
    }
}

static inline __m512 floats(__m512i high, __m512i low, const int32_t *excess) {
  __m512i sum = _mm512_add_epi32(low, _mm512_slli_epi32(high, 7));
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_loadu_si512(excess)));
}

/* The scales of the lanes of a vector, which come from `parts` runs of 32 inputs; groups have 2**shift inputs. */
ALWAYS __m512 lane_scales(const uint16_t *scales, long first, int shift, int parts) {
  if ((parts * 32) >> shift <= 1) return _mm512_set1_ps(wide(scales[first >> shift]));
  uint64_t found = 0;
  memcpy(&found, scales + (first >> shift), (size_t)((parts * 32) >> shift) * sizeof *scales);
  __m128i each = _mm_slli_epi32(_mm_cvtepu16_epi32(_mm_cvtsi64_si128((long long)found)), 16);
  int lanes = (1 << shift) / (2 * parts); /* of a group: 16 lanes have `parts` * 32 inputs */
  __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  __m512i which = _mm512_srl_epi32(lane, _mm_cvtsi32_si128(__builtin_ctz((unsigned)lanes)));
  return _mm512_permutexvar_ps(which, _mm512_castps128_ps512(_mm_castsi128_ps(each)));
}

ALWAYS float row_of_8(const uint8_t *codes, const uint16_t *scales, const Block *block, long inner, int shift) {
  __m512 total = _mm512_setzero_ps();
  __m512i zero = _mm512_setzero_si512();
  for (long first = 0; first < inner; first += BLOCK, block++)
    for (int vector = 0; vector < 2; vector++) {
      __m512i own = _mm512_loadu_si512(codes + first + 64 * vector);
      __m512i high = _mm512_dpbusd_epi32(zero, own, _mm512_load_si512(block->high[vector]));
      __m512i low = _mm512_dpbusd_epi32(zero, own, _mm512_load_si512(block->low[vector]));
      __m512 scale = _mm512_set1_ps(block->scale);
      if (shift) scale = _mm512_mul_ps(scale, lane_scales(scales, first + 64 * vector, shift, 2));
      total = _mm512_fmadd_ps(floats(high, low, block->excess[vector]), scale, total);
    }
  return _mm512_reduce_add_ps(total) * (shift ? 1 : wide(scales[0]));
}

ALWAYS float row_of_4(const uint8_t *codes, const uint16_t *scales, const Block *block, long inner, int shift) {
  __m512 total = _mm512_setzero_ps();
  __m512i zero = _mm512_setzero_si512(), half = _mm512_set1_epi8(15);
  for (long first = 0; first < inner; first += BLOCK, block++) {
    __m512i bytes = _mm512_loadu_si512(codes + first / 2);
    _mm_prefetch((const char *)codes + first / 2 + AHEAD, _MM_HINT_T0);
    __m512i one = _mm512_and_si512(bytes, half), two = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), half);
    __m512i high = _mm512_dpbusd_epi32(zero, one, _mm512_load_si512(block->high[0]));
    __m512i low = _mm512_dpbusd_epi32(zero, one, _mm512_load_si512(block->low[0]));
    high = _mm512_dpbusd_epi32(high, two, _mm512_load_si512(block->high[1]));
    low = _mm512_dpbusd_epi32(low, two, _mm512_load_si512(block->low[1]));
    __m512 scale = shift ? lane_scales(scales, first, shift, 4) : _mm512_set1_ps(wide(scales[0]));
    scale = _mm512_mul_ps(scale, _mm512_set1_ps(block->scale));
    total = _mm512_fmadd_ps(floats(high, low, block->excess[0]), scale, total);
  }
  return _mm512_reduce_add_ps(total);
}

int llamalab_codes(int bits, const uint8_t *codes, const uint16_t *scales, const uint16_t *offsets, const uint16_t *x,
                   uint16_t *y, long rows, long out, long inner, long group) {
  long count = inner / BLOCK, groups = inner / group;
  int shift = group < inner ? __builtin_ctzl((unsigned long)group) : 0; /* groups are powers of 2, or a row */
  Block *blocks = aligned_alloc(64, (size_t)(rows * count) * sizeof *blocks);
  float *sums = calloc((size_t)(rows * groups), sizeof *sums);
  if (!blocks || !sums) {
    free(blocks);
    free(sums);
    return 1;
  }
#pragma omp parallel for schedule(static)
  for (long b = 0; b < rows * count; b++) in_parts(x + b * BLOCK, blocks + b, bits);
  if (offsets)
    for (long i = 0; i < rows * inner; i++) sums[i / group] += wide(x[i]);
#pragma omp parallel for schedule(dynamic, 64)
  for (long o = 0; o < out; o++) {
    const uint8_t *own = codes + o * (inner * bits / 8);
    const uint16_t *scale = scales + o * groups;
    for (long r = 0; r < rows; r++) {
      const Block *in = blocks + r * count;
      float sum = bits == 8 ? shift == 5 ? row_of_8(own, scale, in, inner, 5)
                              : shift    ? row_of_8(own, scale, in, inner, shift)
                                         : row_of_8(own, scale, in, inner, 0)
                  : shift == 7 ? row_of_4(own, scale, in, inner, 7)
                  : shift == 5 ? row_of_4(own, scale, in, inner, 5)
                               : row_of_4(own, scale, in, inner, shift);
      if (offsets)
#pragma omp simd reduction(+ : sum)
        for (long g = 0; g < groups; g++) sum += wide(offsets[o * groups + g]) * sums[r * groups + g];
      y[r * out + o] = narrow(sum);
    }
  }
  free(blocks);
  free(sums);
  return 0;
}
#endif
