/* A stand-in for NVIDIA's driver, libcuda.so.1: memory is the host's, copies copy, launches only count.
 *
 * Nothing is computed: what kernels would write stays what it was. What the host does is the real thing, so that
 * its time, its launches and its copies can be measured on a machine without a GPU. After `stand_in_still` nothing is
 * filled or copied within the device either, which would cost the host no time. The functions have the
 * signatures that CUDA 12 and 13 ask for by cuGetProcAddress; one that is not here answers "not supported", and
 * says so if STAND_IN_VERBOSE is set. `stand_in.py` builds and loads it:
 *
 *     cc -O2 -shared -fPIC -pthread -Wl,-soname,libcuda.so.1 stand_in_driver.c -o libcuda.so.1 -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int Result;
typedef uint64_t Pointer; /* to memory of the "device" */
typedef void *Handle;

enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, NOT_FOUND = 500, NOT_SUPPORTED = 801,
    STREAM_CAPTURE_IMPLICIT = 906
};

/* -- what is counted ------------------------------------------------------------------------------------------ */

#define COUNTERS(X)                                                                                                \
    X(launches) X(cooperative) X(graph_launches) X(graph_nodes) X(to_device) X(to_host) X(on_device) X(fills)      \
    X(allocations) X(allocated_bytes) X(host_allocations) X(frees) X(events) X(synchronizations)
#define DECLARE(name) static atomic_long name;
COUNTERS(DECLARE)

typedef struct Kernel {
    char *name;
    long count;           /* launches, and nodes of launched graphs */
    unsigned most_shared; /* bytes of dynamic shared memory that it may ask for */
    struct Kernel *next;
} Kernel;

static Kernel *kernels = NULL;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all lists */

/* Work that was recorded: kernels, and NULL for a copy or a fill. */
typedef struct {
    size_t count, room;
    Kernel **nodes;
} Graph;

typedef struct {
    Graph *recording;
    unsigned non_blocking; /* the default stream does not wait for it */
} Stream;

static Stream default_stream;

static Stream *stream_of(Handle s) { return (uintptr_t)s <= 2 ? &default_stream : s; }

/* Streams that record and that the default stream would wait for. */
static atomic_int waited_for;

/* Whether CUDA refuses work on the stream because a recorded one would have to wait for it. */
static int refused(Handle s) { return (uintptr_t)s <= 1 && waited_for; }

/* Whether the stream records; if so, that a node was added. */
static int recorded(Handle s, Kernel *kernel) {
    Graph *graph = stream_of(s)->recording;
    if (!graph) return 0;
    if (graph->count == graph->room) {
        graph->room = graph->room ? 2 * graph->room : 64;
        graph->nodes = realloc(graph->nodes, graph->room * sizeof(Kernel *));
    }
    graph->nodes[graph->count++] = kernel;
    return 1;
}

static void count_kernel(Kernel *kernel) {
    pthread_mutex_lock(&lock);
    kernel->count++;
    pthread_mutex_unlock(&lock);
}

static Result launched(Kernel *kernel, unsigned shared, Handle s, int together) {
    if (shared > kernel->most_shared) return INVALID_VALUE; /* as a device would refuse it */
    if (refused(s)) return STREAM_CAPTURE_IMPLICIT;
    if (recorded(s, kernel)) return SUCCESS;
    launches++;
    cooperative += together;
    count_kernel(kernel);
    return SUCCESS;
}

/* For Python: fill and copy nothing within the device; forget all counts; tell them as JSON, until the next call. */
static int still = 0;
void stand_in_still(void) { still = 1; }

void stand_in_reset(void) {
#define FORGET(name) name = 0;
    COUNTERS(FORGET)
    pthread_mutex_lock(&lock);
    for (Kernel *k = kernels; k; k = k->next) k->count = 0;
    pthread_mutex_unlock(&lock);
}

const char *stand_in_report(void) {
    static char *text = NULL;
    size_t size;
    free(text);
    FILE *out = open_memstream(&text, &size);
    fputc('{', out);
#define TELL(name) fprintf(out, "\"" #name "\": %ld, ", (long)name);
    COUNTERS(TELL)
    fputs("\"kernels\": {", out);
    const char *comma = "";
    pthread_mutex_lock(&lock);
    for (Kernel *k = kernels; k; k = k->next)
        if (k->count) {
            fprintf(out, "%s\"%s\": %ld", comma, k->name, k->count);
            comma = ", ";
        }
    pthread_mutex_unlock(&lock);
    fputs("}}", out);
    fclose(out);
    return text;
}

/* -- device and context: one of each, of the size of an H100 --------------------------------------------------- */

static char the_context[64], the_module[64], the_library[64], the_pool[64];
static int context_active = 0;

Result cuInit(unsigned flags) { return SUCCESS; }
Result cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
Result cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
Result cuDeviceGet(int *device, int ordinal) { return *device = ordinal, SUCCESS; }
Result cuDeviceGetName(char *name, int size, int device) { return snprintf(name, size, "stand-in driver"), SUCCESS; }
Result cuDeviceTotalMem(size_t *bytes, int device) { return *bytes = (size_t)80 << 30, SUCCESS; }
Result cuDeviceGetUuid(char *uuid, int device) { return memset(uuid, 7, 16), SUCCESS; }

Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    static const int known[][2] = {
        {1, 1024},   {2, 1024},      {3, 1024},   {4, 64},      {5, 2147483647}, {6, 65535},    {7, 65535},
        {8, 49152},  {9, 65536},     {10, 32},    {12, 65536},  {13, 1980000},   {16, 132},     {38, 52428800},
        {39, 2048},  {41, 1},        {75, 9},     {76, 0},      {81, 233472},    {82, 65536},   {95, 1},
        {97, 232448}, {106, 32},     {115, 1},
    };
    *value = 0;
    for (size_t n = 0; n < sizeof known / sizeof *known; n++)
        if (known[n][0] == attribute) *value = known[n][1];
    return SUCCESS;
}

Result cuDevicePrimaryCtxRetain(Handle *c, int device) { return *c = the_context, context_active = 1, SUCCESS; }
Result cuDevicePrimaryCtxRelease(int device) { return SUCCESS; }
Result cuDevicePrimaryCtxReset(int device) { return SUCCESS; }
Result cuDevicePrimaryCtxSetFlags(int device, unsigned flags) { return SUCCESS; }
Result cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    return *flags = 0, *active = context_active, SUCCESS;
}

static __thread Handle current = NULL, stack[64];
static __thread int depth = 0;

Result cuCtxPushCurrent(Handle c) {
    if (depth == 64) return INVALID_VALUE;
    return stack[depth++] = current, current = c, SUCCESS;
}
Result cuCtxPopCurrent(Handle *c) {
    if (c) *c = current;
    return current = depth ? stack[--depth] : NULL, SUCCESS;
}
Result cuCtxGetCurrent(Handle *c) { return *c = current, SUCCESS; }
Result cuCtxSetCurrent(Handle c) { return current = c, SUCCESS; }
Result cuCtxGetDevice(int *device) { return *device = 0, current ? SUCCESS : INVALID_CONTEXT; }
Result cuCtxGetDevice_v2(int *device, Handle c) { return *device = 0, SUCCESS; }
Result cuCtxSynchronize(void) { return synchronizations++, SUCCESS; }
Result cuCtxGetStreamPriorityRange(int *least, int *greatest) { return *least = 0, *greatest = -5, SUCCESS; }
Result cuCtxGetId(Handle c, unsigned long long *id) { return *id = 1, SUCCESS; }
Result cuCtxEnablePeerAccess(Handle c, unsigned flags) { return SUCCESS; }
Result cuDeviceCanAccessPeer(int *can, int a, int b) { return *can = 0, SUCCESS; }

/* -- memory ----------------------------------------------------------------------------------------------------- */

static Result host_memory(void **p, size_t size) { return posix_memalign(p, 512, size) ? OUT_OF_MEMORY : SUCCESS; }

Result cuMemGetInfo(size_t *free_bytes, size_t *total) {
    return *free_bytes = (size_t)79 << 30, *total = (size_t)80 << 30, SUCCESS;
}
Result cuMemAlloc(Pointer *p, size_t size) {
    void *memory;
    if (host_memory(&memory, size)) return OUT_OF_MEMORY;
    memset(memory, 0, size);
    allocations++;
    allocated_bytes += size;
    return *p = (Pointer)memory, SUCCESS;
}
Result cuMemFree(Pointer p) { return free((void *)p), frees++, SUCCESS; }
Result cuMemAllocAsync(Pointer *p, size_t size, Handle s) { return cuMemAlloc(p, size); }
Result cuMemFreeAsync(Pointer p, Handle s) { return cuMemFree(p); }
Result cuMemHostAlloc(void **p, size_t size, unsigned flags) { return host_allocations++, host_memory(p, size); }
Result cuMemAllocHost(void **p, size_t size) { return cuMemHostAlloc(p, size, 0); }
Result cuMemFreeHost(void *p) { return free(p), SUCCESS; }
Result cuMemHostGetDevicePointer(Pointer *d, void *p, unsigned flags) { return *d = (Pointer)p, SUCCESS; }
Result cuMemGetAddressRange(Pointer *base, size_t *size, Pointer p) { return *base = p, *size = 0, SUCCESS; }

static Result copied(void *to, const void *from, size_t size, Handle s, atomic_long *counter) {
    if (refused(s)) return STREAM_CAPTURE_IMPLICIT;
    if (recorded(s, NULL)) return SUCCESS;
    if (counter != &on_device || !still) memcpy(to, from, size);
    return ++*counter, SUCCESS;
}

Result cuMemcpyHtoDAsync(Pointer d, const void *h, size_t n, Handle s) { return copied((void *)d, h, n, s, &to_device); }
Result cuMemcpyDtoHAsync(void *h, Pointer d, size_t n, Handle s) { return copied(h, (void *)d, n, s, &to_host); }
Result cuMemcpyDtoDAsync(Pointer d, Pointer e, size_t n, Handle s) {
    return copied((void *)d, (void *)e, n, s, &on_device);
}
Result cuMemcpyHtoD(Pointer d, const void *h, size_t n) { return cuMemcpyHtoDAsync(d, h, n, 0); }
Result cuMemcpyDtoH(void *h, Pointer d, size_t n) { return synchronizations++, cuMemcpyDtoHAsync(h, d, n, 0); }
Result cuMemcpyDtoD(Pointer d, Pointer e, size_t n) { return cuMemcpyDtoDAsync(d, e, n, 0); }
Result cuMemsetD8Async(Pointer d, unsigned char value, size_t n, Handle s) {
    if (refused(s)) return STREAM_CAPTURE_IMPLICIT;
    if (recorded(s, NULL)) return SUCCESS;
    if (!still) memset((void *)d, value, n);
    return fills++, SUCCESS;
}
Result cuMemsetD8(Pointer d, unsigned char value, size_t n) { return cuMemsetD8Async(d, value, n, 0); }

Result cuPointerGetAttribute(void *out, int attribute, Pointer p) {
    switch (attribute) {
    case 1: *(Handle *)out = the_context; break;
    case 2: *(int *)out = 2; break; /* memory of the device */
    case 3: *(Pointer *)out = p; break;
    case 8: case 9: *(int *)out = 0; break;
    default: *(uint64_t *)out = 0;
    }
    return SUCCESS;
}
Result cuPointerGetAttributes(unsigned count, int *attributes, void **out, Pointer p) {
    for (unsigned n = 0; n < count; n++) cuPointerGetAttribute(out[n], attributes[n], p);
    return SUCCESS;
}
Result cuDeviceGetMemPool(Handle *pool, int device) { return *pool = the_pool, SUCCESS; }
Result cuDeviceGetDefaultMemPool(Handle *pool, int device) { return *pool = the_pool, SUCCESS; }
Result cuMemPoolSetAttribute(Handle pool, int attribute, void *value) { return SUCCESS; }
Result cuMemPoolGetAttribute(Handle pool, int attribute, void *value) { return *(uint64_t *)value = 0, SUCCESS; }

/* -- streams and events: all is done when it is asked for -------------------------------------------------------- */

Result cuStreamCreate(Handle *s, unsigned flags) {
    Stream *stream = calloc(1, sizeof(Stream));
    stream->non_blocking = flags & 1;
    return *s = stream, SUCCESS;
}
Result cuStreamCreateWithPriority(Handle *s, unsigned flags, int priority) { return cuStreamCreate(s, flags); }
Result cuStreamDestroy(Handle s) { return free(s), SUCCESS; }
Result cuStreamSynchronize(Handle s) { return synchronizations++, SUCCESS; }
Result cuStreamQuery(Handle s) { return SUCCESS; }
Result cuStreamGetFlags(Handle s, unsigned *flags) { return *flags = 0, SUCCESS; }
Result cuStreamGetPriority(Handle s, int *priority) { return *priority = 0, SUCCESS; }
Result cuStreamGetCtx(Handle s, Handle *c) { return *c = the_context, SUCCESS; }
Result cuStreamGetCtx_v2(Handle s, Handle *c, Handle *green) {
    if (green) *green = NULL;
    return *c = the_context, SUCCESS;
}
Result cuStreamGetDevice(Handle s, int *device) { return *device = 0, SUCCESS; }
Result cuStreamWaitEvent(Handle s, Handle event, unsigned flags) { return SUCCESS; }
Result cuStreamAddCallback(Handle s, Handle call, Handle data, unsigned flags) { return SUCCESS; }

Result cuEventCreate(Handle *event, unsigned flags) {
    return *event = calloc(1, sizeof(struct timespec)), events++, SUCCESS;
}
Result cuEventDestroy(Handle event) { return free(event), SUCCESS; }
Result cuEventQuery(Handle event) { return SUCCESS; }
Result cuEventRecord(Handle event, Handle s) { return clock_gettime(CLOCK_MONOTONIC, event), SUCCESS; }
Result cuEventSynchronize(Handle event) { return SUCCESS; }
Result cuEventElapsedTime(float *ms, Handle a, Handle b) { /* of the host */
    struct timespec *begin = a, *end = b;
    return *ms = (end->tv_sec - begin->tv_sec) * 1e3 + (end->tv_nsec - begin->tv_nsec) / 1e6, SUCCESS;
}

/* -- kernels ------------------------------------------------------------------------------------------------------ */

static Kernel *kernel_named(const char *name) {
    pthread_mutex_lock(&lock);
    Kernel *k = kernels;
    while (k && strcmp(k->name, name)) k = k->next;
    if (!k) {
        k = calloc(1, sizeof *k);
        k->name = strdup(name);
        k->most_shared = 48 << 10;
        k->next = kernels;
        kernels = k;
    }
    pthread_mutex_unlock(&lock);
    return k;
}

Result cuModuleLoadDataEx(Handle *m, const void *image, unsigned n, int *options, void **values) {
    return *m = malloc(1), SUCCESS;
}
Result cuModuleLoadData(Handle *m, const void *image) { return *m = malloc(1), SUCCESS; }
Result cuModuleUnload(Handle m) { return free(m), SUCCESS; }
Result cuModuleGetFunction(Handle *f, Handle m, const char *name) { return *f = kernel_named(name), SUCCESS; }
Result cuModuleGetGlobal(Pointer *p, size_t *size, Handle m, const char *name) { return NOT_FOUND; }
Result cuLibraryLoadData(Handle *l, const void *code, int *a, void **b, unsigned n, int *c, void **d, unsigned m) {
    return *l = malloc(1), SUCCESS; /* each has its own */
}
Result cuLibraryLoadFromFile(Handle *l, const char *code, int *a, void **b, unsigned n, int *c, void **d, unsigned m) {
    return *l = malloc(1), SUCCESS;
}
Result cuLibraryUnload(Handle l) { return free(l), SUCCESS; }
Result cuLibraryGetKernel(Handle *k, Handle l, const char *name) { return *k = kernel_named(name), SUCCESS; }
Result cuLibraryGetModule(Handle *m, Handle l) { return *m = the_module, SUCCESS; }
Result cuLibraryGetGlobal(Pointer *p, size_t *size, Handle l, const char *name) {
    static char memory[4096];
    return *p = (Pointer)memory, *size = sizeof memory, SUCCESS;
}
Result cuKernelGetFunction(Handle *f, Handle k) { return *f = k, SUCCESS; }
Result cuKernelGetLibrary(Handle *l, Handle k) { return *l = the_library, SUCCESS; }
Result cuKernelGetName(const char **name, Handle k) { return *name = ((Kernel *)k)->name, SUCCESS; }
Result cuKernelGetParamInfo(Handle k, size_t n, size_t *offset, size_t *size) { return INVALID_VALUE; }
Result cuKernelSetCacheConfig(Handle k, int config, int device) { return SUCCESS; }
Result cuFuncGetModule(Handle *m, Handle f) { return *m = the_module, SUCCESS; }
Result cuFuncGetAttribute(int *value, int attribute, Handle f) {
    *value = attribute == 0 ? 1024 : attribute == 4 ? 64 : attribute == 8 ? (int)((Kernel *)f)->most_shared : 0;
    return SUCCESS;
}
Result cuKernelGetAttribute(int *value, int attribute, Handle k, int device) {
    return cuFuncGetAttribute(value, attribute, k);
}
Result cuFuncSetAttribute(Handle f, int attribute, int value) {
    if (attribute == 8) ((Kernel *)f)->most_shared = value;
    return SUCCESS;
}
Result cuKernelSetAttribute(int attribute, int value, Handle k, int device) {
    return cuFuncSetAttribute(k, attribute, value);
}
Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Handle f, int block, size_t shared) {
    return *blocks = 2, SUCCESS;
}
Result cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, Handle f, int block, size_t shared, unsigned g) {
    return *blocks = 2, SUCCESS;
}
Result cuOccupancyMaxPotentialBlockSize(int *grid, int *block, Handle f, Handle shared_of, size_t shared, int limit) {
    return *grid = 132, *block = 256, SUCCESS;
}

typedef struct {
    int id;
    char pad[4];
    union {
        char pad[64];
        int number;
    } value;
} Attribute;
typedef struct {
    unsigned grid[3], block[3], shared;
    Handle stream;
    Attribute *attributes;
    unsigned count;
} Configuration;

Result cuLaunchKernelEx(const Configuration *c, Handle f, void **arguments, void **extra) {
    int together = 0;
    for (unsigned n = 0; n < c->count; n++) together |= c->attributes[n].id == 2 && c->attributes[n].value.number;
    return launched(f, c->shared, c->stream, together);
}
Result cuLaunchKernel(Handle f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, Handle s, void **arguments, void **extra) {
    return launched(f, shared, s, 0);
}
Result cuLaunchCooperativeKernel(Handle f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                 unsigned bz, unsigned shared, Handle s, void **arguments) {
    return launched(f, shared, s, 1);
}
Result cuProfilerStart(void) { return SUCCESS; }
Result cuProfilerStop(void) { return SUCCESS; }

/* -- graphs: what a stream records is counted when the graph is launched ------------------------------------------ */

Result cuStreamBeginCapture(Handle s, int mode) {
    Stream *stream = stream_of(s);
    if (stream->recording) return INVALID_VALUE;
    waited_for += !stream->non_blocking;
    return stream->recording = calloc(1, sizeof(Graph)), SUCCESS;
}
Result cuStreamEndCapture(Handle s, Handle *graph) {
    Stream *stream = stream_of(s);
    *graph = stream->recording;
    if (!*graph) return INVALID_VALUE;
    waited_for -= !stream->non_blocking;
    return stream->recording = NULL, SUCCESS;
}
Result cuStreamIsCapturing(Handle s, int *status) { return *status = stream_of(s)->recording != NULL, SUCCESS; }
/* (stream, status, id, graph, dependencies, [their edges,] how many): the pointers behind `graph` stay as they are. */
Result cuStreamGetCaptureInfo(Handle s, int *status, uint64_t *id, Handle *graph) {
    cuStreamIsCapturing(s, status);
    if (id) *id = 1;
    if (graph) *graph = stream_of(s)->recording;
    return SUCCESS;
}
Result cuThreadExchangeStreamCaptureMode(int *mode) { return SUCCESS; }

static Graph *same_nodes(const Graph *graph) {
    Graph *copy = malloc(sizeof *copy);
    *copy = (Graph){graph->count, graph->count, malloc(graph->count * sizeof(Kernel *))};
    memcpy(copy->nodes, graph->nodes, graph->count * sizeof(Kernel *));
    return copy;
}
Result cuGraphInstantiate(Handle *exec, Handle graph, uint64_t flags) { return *exec = same_nodes(graph), SUCCESS; }
Result cuGraphInstantiateWithFlags(Handle *exec, Handle graph, uint64_t flags) {
    return cuGraphInstantiate(exec, graph, flags);
}
Result cuGraphInstantiateWithParams(Handle *exec, Handle graph, void *params) {
    if (params) memset((char *)params + 24, 0, 4); /* what came of it: success */
    return cuGraphInstantiate(exec, graph, 0);
}
Result cuGraphDestroy(Handle graph) {
    if (graph) free(((Graph *)graph)->nodes);
    return free(graph), SUCCESS;
}
Result cuGraphExecDestroy(Handle exec) { return cuGraphDestroy(exec); }
Result cuGraphUpload(Handle exec, Handle s) { return SUCCESS; }
Result cuGraphGetNodes(Handle graph, Handle *nodes, size_t *count) { return *count = ((Graph *)graph)->count, SUCCESS; }
Result cuGraphLaunch(Handle exec, Handle s) {
    const Graph *graph = exec;
    graph_launches++;
    for (size_t n = 0; n < graph->count; n++) {
        graph_nodes++;
        if (graph->nodes[n]) count_kernel(graph->nodes[n]);
    }
    return SUCCESS;
}

/* -- names of errors, addresses of functions ---------------------------------------------------------------------- */

Result cuGetErrorName(int error, const char **name) {
    *name = error == SUCCESS         ? "CUDA_SUCCESS"
            : error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
            : error == INVALID_VALUE ? "CUDA_ERROR_INVALID_VALUE"
            : error == NOT_SUPPORTED ? "CUDA_ERROR_NOT_SUPPORTED"
                                     : "CUDA_ERROR_UNKNOWN";
    return SUCCESS;
}
Result cuGetErrorString(int error, const char **text) { return *text = "an error of the stand-in driver", SUCCESS; }

static Result not_supported(void) { return NOT_SUPPORTED; }

Result cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
    static void *self = NULL;
    if (!self) {
        Dl_info info;
        dladdr((void *)cuInit, &info);
        self = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    }
    if (status) *status = 0;
    if ((*function = dlsym(self, name))) return SUCCESS;
    if (getenv("STAND_IN_VERBOSE")) fprintf(stderr, "stand-in driver: no %s\n", name);
    return *function = (void *)not_supported, SUCCESS;
}
Result cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
