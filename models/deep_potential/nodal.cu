// Kernels of the nodal embedding on the pairs of a group; ekfcore/models/deep_potential/_nodal_cupy.py launches them.
//
// Every sum is taken in a fixed order and every number is written by one thread, so that the same input gives the same
// bits. REAL is the type of numbers.

#ifndef REAL
#define REAL double
#endif

#define ORDER 8  // nodes that a point is interpolated from
#define WIDTH 64 // threads that sum together

// The pairs are sorted by their centre, which is counted within the group; `atom` is the same atom counted in the frame.
struct Pair {
    int centre, atom, neighbour, first;
};

// Unit vector to the neighbour, r, s, ds/dr and the place between two nodes.
struct Geometry {
    REAL x, y, z, r, s, slope, t;
};

// Weight of node q and its slope in t, from the coefficients of the polynomials around t = 1/2, shape (ORDER, ORDER).
__device__ void interpolate(const REAL *coefficients, REAL t, int q, REAL &weight, REAL &slope)
{
    const REAL u = t - REAL(0.5);
    weight = coefficients[(ORDER - 1) * ORDER + q];
    slope = 0;
    for (int d = ORDER - 2; d >= 0; --d) {
        slope = slope * u + weight;
        weight = weight * u + coefficients[d * ORDER + q];
    }
}

// Write the sums over the WIDTH threads of what each of them holds, in the order of a binary tree.
template <int COUNT> __device__ void sum_threads(const REAL (&parts)[COUNT], REAL *sums)
{
    __shared__ REAL values[COUNT][WIDTH];
    const int thread = threadIdx.x;
    for (int k = 0; k < COUNT; ++k)
        values[k][thread] = parts[k];
    for (int half = WIDTH / 2; half > 0; half /= 2) {
        __syncthreads();
        if (thread < half)
            for (int k = 0; k < COUNT; ++k)
                values[k][thread] += values[k][thread + half];
    }
    if (thread == 0)
        for (int k = 0; k < COUNT; ++k)
            sums[k] = values[k][0];
}

// pulls = slope of the energy in the vector to the neighbour, which is the force upon the centre and minus that upon the
// neighbour, shape (pairs, 3); stresses = each block's part of the virial, shape (blocks, 3, 3); from C = dE/dB, shape
// (centres, 4, width). One thread a pair. Grid: any number of blocks. Threads: WIDTH.
extern "C" __global__ void pull_pairs(
    const Pair *pairs, const REAL *geometry, const REAL *mean, const REAL *scale, const REAL *coefficients, REAL inverse,
    const REAL *C, int n_pairs, int width, REAL *pulls, REAL *stresses)
{
    REAL stress[9] = {};
    for (int p = blockIdx.x * WIDTH + threadIdx.x; p < n_pairs; p += gridDim.x * WIDTH) {
        const Pair pair = pairs[p];
        const Geometry at = ((const Geometry *)geometry)[p];
        const REAL unit[3] = {at.x, at.y, at.z};
        const REAL row[4] = {
            (at.s - mean[0]) * scale[0], (at.s * at.x - mean[1]) * scale[1], (at.s * at.y - mean[2]) * scale[2],
            (at.s * at.z - mean[3]) * scale[3]};
        const REAL *nodes = C + (size_t)pair.centre * 4 * width + pair.first;
        REAL row_bar[4] = {}, t_bar = 0;
        for (int q = 0; q < ORDER; ++q) {
            REAL weight, slope;
            interpolate(coefficients, at.t, q, weight, slope);
            for (int k = 0; k < 4; ++k) {
                row_bar[k] += weight * nodes[k * width + q];
                t_bar += slope * row[k] * nodes[k * width + q];
            }
        }
        REAL pull[3], along = 0;
        for (int k = 0; k < 3; ++k) {
            pull[k] = row_bar[k + 1] * scale[k + 1];
            along += pull[k] * unit[k];
        }
        const REAL ratio = at.s / at.r;
        const REAL inward = at.slope * (row_bar[0] * scale[0] + inverse * t_bar + along) - ratio * along;
        for (int k = 0; k < 3; ++k) {
            pull[k] = inward * unit[k] + ratio * pull[k];
            pulls[(size_t)p * 3 + k] = pull[k];
        }
        for (int k = 0; k < 9; ++k)
            stress[k] -= at.r * unit[k / 3] * pull[k % 3];
    }
    sum_threads(stress, stresses + (size_t)blockIdx.x * 9);
}

// virial = sum of the parts, shape (3, 3). Grid: 1. Threads: WIDTH.
extern "C" __global__ void sum_stresses(const REAL *stresses, int n_parts, REAL *virial)
{
    REAL sums[9] = {};
    for (int part = threadIdx.x; part < n_parts; part += WIDTH)
        for (int k = 0; k < 9; ++k)
            sums[k] += stresses[(size_t)part * 9 + k];
    sum_threads(sums, virial);
}

// forces = sums of the pulls on each atom, shape (atoms, 3). The ends of the pairs are sorted by the atom that is there,
// those of atom a begin at firsts[a]; end e < n_pairs is the centre of pair e, the others are the neighbours.
// Grid: atoms. Threads: WIDTH.
extern "C" __global__ void collect_forces(const REAL *pulls, const int *ends, const int *firsts, int n_pairs, REAL *forces)
{
    REAL sums[3] = {};
    for (int place = firsts[blockIdx.x] + threadIdx.x; place < firsts[blockIdx.x + 1]; place += WIDTH) {
        const int end = ends[place], pair = end < n_pairs ? end : end - n_pairs;
        for (int k = 0; k < 3; ++k) {
            const REAL pull = pulls[(size_t)pair * 3 + k];
            sums[k] += end < n_pairs ? pull : -pull;
        }
    }
    sum_threads(sums, forces + (size_t)blockIdx.x * 3);
}

// changes = change of B when atoms move by minus `moves`, shape (m, atoms, 3), and vectors r to neighbours by -v^T r with
// v of `strains`, shape (m, 3, 3); shape (m, centres, 4, width). The pairs of a centre begin at starts[centre].
// Lane l of a row has the nodes l, l + ORDER, ...: one of the eight around a point, wherever that lies, so that no two
// threads ever meet. Grid: (centres, m). Threads: (ORDER, 4).
extern "C" __global__ void change_matrices(
    const Pair *pairs, const REAL *geometry, const REAL *mean, const REAL *scale, const REAL *coefficients, REAL inverse,
    const int *starts, const REAL *moves, const REAL *strains, int n_atoms, int width, REAL *changes)
{
    const int lane = threadIdx.x, row = threadIdx.y, centre = blockIdx.x;
    const REAL *move = moves + (size_t)blockIdx.y * n_atoms * 3, *strain = strains + (size_t)blockIdx.y * 9;
    REAL *change = changes + (((size_t)blockIdx.y * gridDim.x + centre) * 4 + row) * width;
    for (int node = lane; node < width; node += ORDER)
        change[node] = 0;
    for (int p = starts[centre]; p < starts[centre + 1]; ++p) {
        const Pair pair = pairs[p];
        const Geometry at = ((const Geometry *)geometry)[p];
        REAL u[3];
        for (int k = 0; k < 3; ++k) {
            const REAL strained = at.x * strain[k] + at.y * strain[3 + k] + at.z * strain[6 + k];
            u[k] = move[(size_t)pair.atom * 3 + k] - move[(size_t)pair.neighbour * 3 + k] - at.r * strained;
        }
        if (u[0] == 0 && u[1] == 0 && u[2] == 0)
            continue; // a group of atoms moves few of the pairs
        const REAL along = u[0] * at.x + u[1] * at.y + u[2] * at.z, s_dot = at.slope * along;
        // This row of the matrix is s times `direction`; no array, for registers cannot be indexed by the thread.
        const REAL direction = row == 0 ? 1 : row == 1 ? at.x : row == 2 ? at.y : at.z;
        const REAL own = row == 0 ? along : row == 1 ? u[0] : row == 2 ? u[1] : u[2];
        const REAL value = (at.s * direction - mean[row]) * scale[row];
        const REAL value_dot = (s_dot * direction + at.s / at.r * (own - along * direction)) * scale[row];
        const int q = (lane - pair.first) & (ORDER - 1);
        REAL weight, slope;
        interpolate(coefficients, at.t, q, weight, slope);
        change[pair.first + q] += weight * value_dot + slope * inverse * s_dot * value;
    }
}
