// Runs CUDA kernels on the CPU, to test their indices and sums where there is no GPU. Include it before the kernels.
//
// The threads of a block are fibers on one thread of the operating system. They run one after the other, each up to its
// next __syncthreads, forwards or backwards: a kernel in which a barrier is missing gives different numbers in the two
// orders. A barrier that some threads of a block do not reach is reported.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <functional>
#include <memory>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static // the blocks run one after the other

struct dim3 {
    unsigned x, y, z;
};

static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

enum Outcome { FINE = 0, DIVERGED = 1 };

constexpr size_t STACK = 256 * 1024; // [bytes]

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK]}; // not filled, unlike a vector: most of it is never touched
    dim3 index;
    int waits_at; // line of the barrier; 0 when the thread has ended
};

static ucontext_t scheduler;
static Fiber *current;
static std::function<void()> body;

[[maybe_unused]] static void wait(int line)
{
    current->waits_at = line;
    swapcontext(&current->context, &scheduler);
}

static void enter()
{
    body();
    current->waits_at = 0;
}

static void start(Fiber &fiber)
{
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, enter, 0);
    fiber.waits_at = -1;
}

// Run the threads of one block to their ends.
static Outcome run_block(std::vector<Fiber> &fibers, bool backwards)
{
    for (Fiber &fiber : fibers)
        start(fiber);
    while (true) {
        for (size_t k = 0; k < fibers.size(); ++k) {
            current = &fibers[backwards ? fibers.size() - 1 - k : k];
            threadIdx = current->index;
            swapcontext(&scheduler, &current->context);
        }
        for (Fiber &fiber : fibers)
            if (fiber.waits_at != fibers[0].waits_at)
                return DIVERGED;
        if (fibers[0].waits_at == 0)
            return FINE;
    }
}

static Outcome run_grid(dim3 grid, dim3 threads, bool backwards)
{
    std::vector<Fiber> fibers(threads.x * threads.y * threads.z);
    gridDim = grid;
    blockDim = threads;
    for (size_t k = 0; k < fibers.size(); ++k) {
        const unsigned x = k % threads.x, y = k / threads.x % threads.y, z = k / threads.x / threads.y;
        fibers[k].index = dim3{x, y, z};
    }
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                blockIdx = dim3{x, y, z};
                if (run_block(fibers, backwards) != FINE)
                    return DIVERGED;
            }
    return FINE;
}

template <class... Arguments, size_t... K>
Outcome launch(void (*kernel)(Arguments...), dim3 grid, dim3 threads, bool backwards, void **arguments,
               std::index_sequence<K...>)
{
    body = [=] { kernel(*static_cast<std::remove_reference_t<Arguments> *>(arguments[K])...); };
    return run_grid(grid, threads, backwards);
}

template <class... Arguments>
Outcome launch(void (*kernel)(Arguments...), dim3 grid, dim3 threads, bool backwards, void **arguments)
{
    return launch(kernel, grid, threads, backwards, arguments, std::index_sequence_for<Arguments...>());
}

} // namespace emulator

#define __syncthreads() emulator::wait(__LINE__)

// Defines emulate_NAME(grid, threads, backwards, arguments), where the arguments are given by their addresses.
#define EMULATE(name)                                                                                                \
    extern "C" int emulate_##name(const unsigned *grid, const unsigned *threads, int backwards, void **arguments)      \
    {                                                                                                                  \
        return emulator::launch(name, dim3{grid[0], grid[1], grid[2]}, dim3{threads[0], threads[1], threads[2]},       \
                                backwards != 0, arguments);                                                            \
    }
