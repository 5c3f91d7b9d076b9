/* Laid over the C library of a process (LD_PRELOAD): notes what it has written below POWER_FOLDER and not yet synced, so
   that a power cut can be played after its SIGKILL, which alone loses nothing that was handed to the system. POWER_LOG
   holds a record for each write, with the bytes that were there before, and one for each sync that succeeded:
   kind 'W' or 'S' 1 | length of the path 4 | offset 8 | length 4 | path | bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int notes = -1;
static const char *folder;
static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void open_notes(void) {
    const char *path = getenv("POWER_LOG");
    folder = getenv("POWER_FOLDER");
    if (path && folder) notes = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static void note(char kind, int file, int64_t offset, const void *bytes, uint32_t length) {
    char link[64], path[4096], head[17];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path);
    if (size < 0 || strncmp(path, folder, strlen(folder))) return;
    uint32_t named = (uint32_t)size;
    head[0] = kind;
    memcpy(head + 1, &named, 4);
    memcpy(head + 5, &offset, 8);
    memcpy(head + 13, &length, 4);
    struct iovec parts[] = {{head, sizeof head}, {path, named}, {(void *)bytes, length}};
    pthread_mutex_lock(&one);
    if (writev(notes, parts, 3) != (ssize_t)(sizeof head + named + length)) abort();
    pthread_mutex_unlock(&one);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    if (notes >= 0) {
        char *before = calloc(1, length ? length : 1);
        ssize_t held = before ? pread64(file, before, length, offset) : -1;
        if (held >= 0) note('W', file, offset, before, (uint32_t)length);
        free(before);
    }
    return real(file, bytes, length, offset);
}

int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    if (notes >= 0) usleep(5000); /* as a disk takes, and tmpfs does not: so that the power fails in between */
    int failed = real(file);
    if (!failed && notes >= 0) note('S', file, 0, "", 0);
    return failed;
}

int fsync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    int failed = real(file);
    if (!failed && notes >= 0) note('S', file, 0, "", 0);
    return failed;
}
