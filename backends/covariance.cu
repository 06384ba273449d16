// Kernels on the tiles of a block-diagonal covariance, one launch for all blocks; ekfcore/backends/_cupy.py launches them.
//
// The weights of each block are cut into chunks of EDGE, the last of which may be shorter; a tile stands for a pair of
// chunks of one block. First come the whole tiles on the diagonal, one for each chunk, then those below it. Places behind
// the end of a block hold zeros. Every sum is taken in a fixed order, so that the same numbers give the same bits.
//
// REAL is the type of numbers. ROWS is how many rows of H are multiplied at once: a number that is read from memory
// serves them all, and the mirror image above the diagonal as well.

#ifndef REAL
#define REAL double
#endif
#ifndef ROWS
#define ROWS 1
#endif
#ifndef EDGE
#define EDGE 64
#endif

#define SHARERS 4              // threads that share a row, or a column, of a tile
#define SHARE (EDGE / SHARERS) // what each of them takes
#define PADDED (EDGE + 1)      // one column more, so that threads that walk down a column meet different memory banks
#define MICRO 4                // a thread of fold_tiles has MICRO x MICRO numbers of a tile
#define SIDE (EDGE / MICRO)
#define DEPTH 8   // pending rows that fold_tiles takes at a time
#define WIDTH 128 // threads that sum over a block

#define SUMS (2 * SHARERS * ROWS * EDGE)
#define ROOM (EDGE * PADDED > SUMS ? EDGE * PADDED : SUMS)

// A chunk has `size` weights from weight `start` on and is one of the `count` chunks of its block, which begin with chunk
// `first`. Its products with the tiles of the block stand one after the other from `slot` on.
struct Chunk {
    int start, size, block, first, count, slot;
};

struct Tile {
    int row, column; // chunks
};

// products[slot] = H_column tile^T and, below the diagonal, H_row tile for the mirror image; shape (ROWS, EDGE) each.
// Grid: tiles. Threads: (EDGE, SHARERS).
extern "C" __global__ void multiply_tiles(
    const REAL *tiles, const Tile *pairs, const Chunk *chunks, const REAL *H, int n, REAL *products)
{
    __shared__ REAL room[ROOM];
    __shared__ REAL h_row[ROWS][EDGE], h_column[ROWS][EDGE];
    const int lane = threadIdx.x, sharer = threadIdx.y;
    const Tile pair = pairs[blockIdx.x];
    const Chunk row = chunks[pair.row], column = chunks[pair.column];

    const REAL *stored = tiles + (size_t)blockIdx.x * EDGE * EDGE;
    REAL *tile = room; // (EDGE, PADDED)
    for (int r = sharer; r < EDGE; r += SHARERS)
        tile[r * PADDED + lane] = stored[r * EDGE + lane];
    for (int k = sharer; k < ROWS; k += SHARERS) {
        h_row[k][lane] = lane < row.size ? H[(size_t)k * n + row.start + lane] : 0;
        h_column[k][lane] = lane < column.size ? H[(size_t)k * n + column.start + lane] : 0;
    }
    __syncthreads();

    // Lane r sums along row r over its share of the columns, and down column r over its share of the rows.
    REAL along[ROWS] = {}, down[ROWS] = {};
    for (int step = sharer * SHARE; step < (sharer + 1) * SHARE; ++step) {
        const REAL in_row = tile[lane * PADDED + step], in_column = tile[step * PADDED + lane];
        for (int k = 0; k < ROWS; ++k) {
            along[k] += in_row * h_column[k][step];
            down[k] += in_column * h_row[k][step];
        }
    }
    __syncthreads(); // nobody needs the tile any more

    REAL *sums = room; // (2, SHARERS, ROWS, EDGE)
    for (int k = 0; k < ROWS; ++k) {
        sums[(sharer * ROWS + k) * EDGE + lane] = along[k];
        sums[((SHARERS + sharer) * ROWS + k) * EDGE + lane] = down[k];
    }
    __syncthreads();

    const size_t row_slot = row.slot + pair.column - column.first, column_slot = column.slot + pair.row - row.first;
    for (int k = sharer; k < ROWS; k += SHARERS) {
        REAL row_sum = 0, column_sum = 0;
        for (int s = 0; s < SHARERS; ++s) {
            row_sum += sums[(s * ROWS + k) * EDGE + lane];
            column_sum += sums[((SHARERS + s) * ROWS + k) * EDGE + lane];
        }
        products[(row_slot * ROWS + k) * EDGE + lane] = row_sum;
        if (pair.row != pair.column)
            products[(column_slot * ROWS + k) * EDGE + lane] = column_sum;
    }
}

// Return to thread 0 the sum of what the WIDTH threads hold, in the order of a binary tree.
__device__ REAL sum_of_threads(REAL value)
{
    __shared__ REAL values[WIDTH];
    const int thread = threadIdx.x;
    __syncthreads(); // the last call's values have been read
    values[thread] = value;
    for (int half = WIDTH / 2; half > 0; half /= 2) {
        __syncthreads();
        if (thread < half)
            values[thread] += values[thread + half];
    }
    return values[0];
}

// correlation[block] = H V^T within the block, shape (ROWS, k). Grid: (blocks, k). Threads: WIDTH.
extern "C" __global__ void correlate(
    const REAL *H, const REAL *V, const int *ends, int n, int k, REAL *correlation)
{
    const int block = blockIdx.x, row = blockIdx.y;
    REAL sums[ROWS] = {};
    for (int j = (block ? ends[block - 1] : 0) + threadIdx.x; j < ends[block]; j += WIDTH) {
        const REAL v = V[(size_t)row * n + j];
        for (int r = 0; r < ROWS; ++r)
            sums[r] += v * H[(size_t)r * n + j];
    }
    for (int r = 0; r < ROWS; ++r) {
        const REAL sum = sum_of_threads(sums[r]);
        if (threadIdx.x == 0)
            correlation[((size_t)block * ROWS + r) * k + row] = sum;
    }
}

// G = scale (H Q + shift H - (H V^T) V) from the parts of H Q and from H V^T. Grid: chunks. Threads: (EDGE, ROWS).
extern "C" __global__ void collect_products(
    const REAL *products, const REAL *correlation, const Chunk *chunks, const REAL *H, const REAL *V,
    const REAL *scale, const REAL *shift, int n, int k, REAL *G)
{
    const int lane = threadIdx.x, row = threadIdx.y;
    const Chunk chunk = chunks[blockIdx.x];
    if (lane >= chunk.size)
        return;
    const size_t column = chunk.start + lane;
    REAL sum = 0;
    for (int part = 0; part < chunk.count; ++part)
        sum += products[(((size_t)chunk.slot + part) * ROWS + row) * EDGE + lane];
    sum += shift[chunk.block] * H[row * (size_t)n + column];
    for (int p = 0; p < k; ++p)
        sum -= correlation[((size_t)chunk.block * ROWS + row) * k + p] * V[p * (size_t)n + column];
    G[row * (size_t)n + column] = scale[chunk.block] * sum;
}

// folded = scale (tile + shift I - V_row^T V_column); `folded` may be `tiles`. Grid: tiles. Threads: (SIDE, SIDE).
// The two sides of a tile on the diagonal get the same bits, for they add the same products in the same order.
extern "C" __global__ void fold_tiles(
    const REAL *tiles, const Tile *pairs, const Chunk *chunks, const REAL *V, const REAL *scale, const REAL *shift,
    int n, int k, REAL *folded)
{
    __shared__ REAL v_row[DEPTH][EDGE], v_column[DEPTH][EDGE];
    const int x = threadIdx.x, y = threadIdx.y, thread = y * SIDE + x;
    const Tile pair = pairs[blockIdx.x];
    const Chunk row = chunks[pair.row], column = chunks[pair.column];

    REAL sums[MICRO][MICRO] = {};
    for (int begin = 0; begin < k; begin += DEPTH) {
        __syncthreads(); // the rows before have been used
        for (int place = thread; place < DEPTH * EDGE; place += SIDE * SIDE) {
            const int p = place / EDGE, lane = place % EDGE;
            const REAL *v = V + (size_t)(begin + p) * n;
            v_row[p][lane] = begin + p < k && lane < row.size ? v[row.start + lane] : 0;
            v_column[p][lane] = begin + p < k && lane < column.size ? v[column.start + lane] : 0;
        }
        __syncthreads();
        for (int p = 0; p < DEPTH; ++p)
            for (int a = 0; a < MICRO; ++a)
                for (int b = 0; b < MICRO; ++b)
                    sums[a][b] += v_row[p][y + a * SIDE] * v_column[p][x + b * SIDE];
    }

    const REAL factor = scale[row.block];
    for (int a = 0; a < MICRO; ++a) {
        for (int b = 0; b < MICRO; ++b) {
            const int i = y + a * SIDE, j = x + b * SIDE;
            const size_t place = ((size_t)blockIdx.x * EDGE + i) * EDGE + j;
            REAL value = tiles[place] - sums[a][b];
            if (pair.row == pair.column && i == j && i < row.size)
                value += shift[row.block];
            folded[place] = factor * value;
        }
    }
}

// Trace of each block. Grid: blocks. Threads: WIDTH.
extern "C" __global__ void trace_blocks(const REAL *tiles, const Chunk *chunks, const int *firsts, REAL *traces)
{
    const Chunk first = chunks[firsts[blockIdx.x]];
    REAL sum = 0;
    for (int place = threadIdx.x; place < first.count * EDGE; place += WIDTH)
        sum += tiles[((size_t)first.first * EDGE + place) * EDGE + place % EDGE];
    sum = sum_of_threads(sum);
    if (threadIdx.x == 0)
        traces[blockIdx.x] = sum;
}

// Sums of the rows of A, shape (m, n), over the columns of each block. Grid: (blocks, m). Threads: WIDTH.
extern "C" __global__ void sum_blocks(const REAL *A, const int *ends, int n, REAL *sums)
{
    const int block = blockIdx.x, row = blockIdx.y;
    REAL sum = 0;
    for (int j = (block ? ends[block - 1] : 0) + threadIdx.x; j < ends[block]; j += WIDTH)
        sum += A[(size_t)row * n + j];
    sum = sum_of_threads(sum);
    if (threadIdx.x == 0)
        sums[(size_t)row * gridDim.x + block] = sum;
}
