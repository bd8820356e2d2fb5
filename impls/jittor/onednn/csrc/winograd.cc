// 3x3 convolutions of stride 1 and padding 1 by minimal filtering, F(2x2, 3x3) (Winograd 1980; Lavin & Gray 2016): every tile of
// 2x2 outputs takes 16 products of numbers instead of 36, and these are 16 matrix products over all tiles.
#include "winograd.h"

#include <algorithm>
#include <vector>

#include "arena.h"

extern "C" int dnnl_sgemm(char, char, long, long, long, float, const float*, long, const float*, long, float, float*, long);

namespace {

constexpr long kPlaces = 16;       // of a transformed tile
constexpr long kMostTiles = 2048;  // transformed at once, so that they stay in the last cache
constexpr long kMostRows = 256;    // of one product

// Floats from one place to the next: a cache line more than the matrix, else all places of a tile would share their cache sets.
long apart(long rows, long columns) { return rows * columns + 16; }

struct Tiles {
    long n, h, w, down, across;
    Tiles(long n, long h, long w) : n(n), h(h), w(w), down((h + 1) / 2), across((w + 1) / 2) {}
    long count() const { return n * down * across; }
};

// Calls body(image, row, column, tile) for every tile, row and column being those of its first output.
template <class Body>
void for_each_tile(const Tiles& t, Body body) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < t.count(); i++) body(i / (t.down * t.across), i / t.across % t.down * 2, i % t.across * 2, i);
}

// The channels of a pixel beyond the edge.
const float* outside(long channels) {
    static thread_local std::vector<float> zeros;
    if (static_cast<long>(zeros.size()) < channels) zeros.assign(channels, 0.f);
    return zeros.data();
}

// v[place][tile][channel] = B^T d B of the 4x4 inputs d around each tile.
void transform_inputs(const Tiles& t, const float* x, long channels, float* v) {
    const long step = apart(t.count(), channels);
    for_each_tile(t, [&](long image, long row, long column, long tile) {
        const float* zeros = outside(channels);
        const float* d[4][4];
        for (long i = 0; i < 4; i++)
            for (long j = 0; j < 4; j++) {
                const long r = row + i - 1, c = column + j - 1;
                d[i][j] = r < 0 || c < 0 || r >= t.h || c >= t.w ? zeros : x + ((image * t.h + r) * t.w + c) * channels;
            }
        float* out = v + tile * channels;
#pragma omp simd
        for (long c = 0; c < channels; c++) {
            float m[4][4];
            for (int j = 0; j < 4; j++) {
                const float a = d[0][j][c], b = d[1][j][c], e = d[2][j][c], f = d[3][j][c];
                m[0][j] = a - e, m[1][j] = b + e, m[2][j] = e - b, m[3][j] = b - f;
            }
            for (int i = 0; i < 4; i++) {
                out[(4 * i + 0) * step + c] = m[i][0] - m[i][2];
                out[(4 * i + 1) * step + c] = m[i][1] + m[i][2];
                out[(4 * i + 2) * step + c] = m[i][2] - m[i][1];
                out[(4 * i + 3) * step + c] = m[i][1] - m[i][3];
            }
        }
    });
}

// y = A^T m A (+ bias) of m[place][tile][channel].
void transform_outputs(const Tiles& t, const float* m, long channels, const float* bias, float* y) {
    const long step = apart(t.count(), channels);
    for_each_tile(t, [&](long image, long row, long column, long tile) {
        const float* in = m + tile * channels;
        float* first = y + ((image * t.h + row) * t.w + column) * channels;
        const bool below = row + 1 < t.h, right = column + 1 < t.w;
        float *const p01 = first + channels, *const p10 = first + t.w * channels, *const p11 = p10 + channels;
        auto values = [&](long c, float (&o)[2][2]) {
            float s[2][4];
            for (int j = 0; j < 4; j++) {
                const float *const at = in + j * step + c, a = at[0], b = at[4 * step], e = at[8 * step], f = at[12 * step];
                s[0][j] = a + b + e, s[1][j] = b - e - f;
            }
            const float added = bias ? bias[c] : 0.f;
            for (int i = 0; i < 2; i++) {
                o[i][0] = s[i][0] + s[i][1] + s[i][2] + added;
                o[i][1] = s[i][1] - s[i][2] - s[i][3] + added;
            }
        };
        if (below && right) {
#pragma omp simd
            for (long c = 0; c < channels; c++) {
                float o[2][2];
                values(c, o);
                first[c] = o[0][0], p01[c] = o[0][1], p10[c] = o[1][0], p11[c] = o[1][1];
            }
        } else {
            for (long c = 0; c < channels; c++) {
                float o[2][2];
                values(c, o);
                first[c] = o[0][0];
                if (right) p01[c] = o[0][1];
                if (below) p10[c] = o[1][0];
            }
        }
    });
}

// m[place][tile][channel] = A dy A^T of the 2x2 gradients of each tile.
void transform_gradients(const Tiles& t, const float* gy, long channels, float* m) {
    const long step = apart(t.count(), channels);
    for_each_tile(t, [&](long image, long row, long column, long tile) {
        const float* zeros = outside(channels);
        const float* d[2][2];
        for (long i = 0; i < 2; i++)
            for (long j = 0; j < 2; j++) {
                const long r = row + i, c = column + j;
                d[i][j] = r >= t.h || c >= t.w ? zeros : gy + ((image * t.h + r) * t.w + c) * channels;
            }
        float* out = m + tile * channels;
#pragma omp simd
        for (long c = 0; c < channels; c++) {
            float s[4][2];
            for (int j = 0; j < 2; j++) {
                const float a = d[0][j][c], b = d[1][j][c];
                s[0][j] = a, s[1][j] = a + b, s[2][j] = a - b, s[3][j] = -b;
            }
            for (int i = 0; i < 4; i++) {
                out[(4 * i + 0) * step + c] = s[i][0];
                out[(4 * i + 1) * step + c] = s[i][0] + s[i][1];
                out[(4 * i + 2) * step + c] = s[i][0] - s[i][1];
                out[(4 * i + 3) * step + c] = -s[i][1];
            }
        }
    });
}

// u[place][out][in] = G w G^T of weights w[out][in][3][3]; turned by 180 degrees for the gradient by the inputs.
void transform_weights(const float* w, long out, long in, bool turned, float* u) {
    const long step = apart(out, in);
#pragma omp parallel for schedule(static)
    for (long o = 0; o < out; o++)
#pragma omp simd
        for (long c = 0; c < in; c++) {
            const float* own = w + (o * in + c) * 9;
            float g[9], s[4][3];
            for (int i = 0; i < 9; i++) g[i] = own[turned ? 8 - i : i];
            for (int j = 0; j < 3; j++) {
                s[0][j] = g[j], s[3][j] = g[6 + j];
                const float even = 0.5f * (g[j] + g[6 + j]), odd = 0.5f * g[3 + j];
                s[1][j] = even + odd, s[2][j] = even - odd;
            }
            float* to = u + o * in + c;
            for (int i = 0; i < 4; i++) {
                const float even = 0.5f * (s[i][0] + s[i][2]), odd = 0.5f * s[i][1];
                to[(4 * i + 0) * step] = s[i][0];
                to[(4 * i + 1) * step] = even + odd;
                to[(4 * i + 2) * step] = even - odd;
                to[(4 * i + 3) * step] = s[i][2];
            }
        }
}

// gw[out][in][3][3] = G^T gu G of gu[place][out][in].
void transform_weight_gradients(const float* gu, long out, long in, float* gw) {
    const long step = apart(out, in);
#pragma omp parallel for simd schedule(static)
    for (long k = 0; k < out * in; k++) {
        float s[3][4];
        for (int j = 0; j < 4; j++) {
            const float *const at = gu + j * step + k, a = at[0], b = at[4 * step], c = at[8 * step], d = at[12 * step];
            s[0][j] = a + 0.5f * (b + c), s[1][j] = 0.5f * (b - c), s[2][j] = d + 0.5f * (b + c);
        }
        for (int i = 0; i < 3; i++) {
            gw[9 * k + 3 * i + 0] = s[i][0] + 0.5f * (s[i][1] + s[i][2]);
            gw[9 * k + 3 * i + 1] = 0.5f * (s[i][1] - s[i][2]);
            gw[9 * k + 3 * i + 2] = s[i][3] + 0.5f * (s[i][1] + s[i][2]);
        }
    }
}

// Calls body(place, first row, rows) for the product of every place, large ones in parts: of a size that no number of threads
// changes, for the sums do with it.
template <class Body>
void for_each_product(long rows, Body body) {
    const long parts = (rows + kMostRows - 1) / kMostRows, part = (rows + parts - 1) / parts;
#pragma omp parallel for schedule(dynamic)
    for (long i = 0; i < kPlaces * parts; i++) {
        const long begin = i % parts * part;
        if (begin < rows) body(i / parts, begin, std::min(part, rows - begin));
    }
}

long images_at_once(long n, long h, long w) { return std::min(n, std::max(1L, kMostTiles / Tiles(1, h, w).count())); }

float* scratch(int which, long floats) {
    static Arena arenas[3];
    return static_cast<float*>(arenas[which].get(floats * sizeof(float)));
}

}  // namespace

bool winograd_pays(long n, long ci, long h, long w, long co, long kh, long kw, long stride, long top, long left, long bottom,
                   long right) {
    const bool fits = kh == 3 && kw == 3 && stride == 1 && top == 1 && left == 1 && bottom == 1 && right == 1;
    // Few channels have no products worth the transforms, few tiles none worth those of the weights.
    const long tiles = Tiles(n, h, w).count(), fewest = std::min(ci, co);
    return fits && fewest >= 32 && tiles >= 96 && tiles * fewest >= 12288;
}

void winograd_products(const float* x, const float* weight, const float* bias, float* y, long n, long in, long h, long w, long out,
                       bool backward) {
    const long images = images_at_once(n, h, w), most = Tiles(images, h, w).count();
    // Of the weights, as they are: (co, ci).
    const long co = backward ? in : out, ci = backward ? out : in;
    float* u = scratch(0, kPlaces * apart(co, ci));
    float *v = scratch(1, kPlaces * apart(most, in)), *m = scratch(2, kPlaces * apart(most, out));
    transform_weights(weight, co, ci, backward, u);
    for (long first = 0; first < n; first += images) {
        const Tiles t(std::min(images, n - first), h, w);
        const long tiles = t.count();
        transform_inputs(t, x + first * h * w * in, in, v);
        for_each_product(tiles, [&](long p, long begin, long rows) {
            dnnl_sgemm('N', backward ? 'N' : 'T', rows, out, in, 1.f, v + p * apart(tiles, in) + begin * in, in, u + p * apart(co, ci), ci,
                       0.f, m + p * apart(tiles, out) + begin * out, out);
        });
        transform_outputs(t, m, out, bias, y + first * h * w * out);
    }
}

void winograd_weights(const float* x, const float* gy, float* gweight, float* gbias, long n, long ci, long h, long w, long co) {
    const long images = images_at_once(n, h, w), most = Tiles(images, h, w).count();
    float* gu = scratch(0, kPlaces * apart(co, ci));
    float *v = scratch(1, kPlaces * apart(most, ci)), *m = scratch(2, kPlaces * apart(most, co));
    for (long first = 0; first < n; first += images) {
        const Tiles t(std::min(images, n - first), h, w);
        const long tiles = t.count();
        transform_inputs(t, x + first * h * w * ci, ci, v);
        transform_gradients(t, gy + first * h * w * co, co, m);
        for_each_product(co, [&](long p, long begin, long rows) {
            dnnl_sgemm('T', 'N', rows, ci, tiles, 1.f, m + p * apart(tiles, co) + begin, co, v + p * apart(tiles, ci), ci,
                       first ? 1.f : 0.f, gu + p * apart(co, ci) + begin * ci, ci);
        });
    }
    transform_weight_gradients(gu, co, ci, gweight);
#pragma omp parallel for schedule(static)
    for (long chunk = 0; chunk < co; chunk += 16) {
        const long wide = std::min(co - chunk, 16L);
        float total[16] = {};
        // Row by row, since one sum over all pixels of a large batch would lose digits.
        for (long row = 0; row < n * h; row++) {
            float sum[16] = {};
            for (long p = row * w; p < (row + 1) * w; p++)
                for (long c = 0; c < wide; c++) sum[c] += gy[p * co + chunk + c];
            for (long c = 0; c < wide; c++) total[c] += sum[c];
        }
        std::copy(total, total + wide, gbias + chunk);
    }
}
