#define _GNU_SOURCE
#include "clinux.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/loop.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

static int result(long value) { return value < 0 ? -errno : (int)value; }

int cl_openat2(int dirfd, const char *path, int flags, unsigned mode, uint64_t resolve) {
    struct open_how how = {
        .flags = (uint64_t)flags | O_CLOEXEC,
        .mode = (flags & (O_CREAT | O_TMPFILE)) ? mode : 0,
        .resolve = resolve,
    };
    /* Another process that renames meanwhile makes the kernel give up rather than risk an escape: look again. */
    for (int attempt = 0; attempt < 100; attempt++) {
        long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) return result(fd);
    }
    return -EAGAIN;
}

int cl_copy_sparse(int from_fd, int to_fd) {
    struct stat st;
    if (fstat(from_fd, &st) < 0 || ftruncate(to_fd, st.st_size) < 0) return -errno;
    off_t at = 0;
    while (at < st.st_size) {
        off_t data = lseek(from_fd, at, SEEK_DATA);
        if (data < 0) return errno == ENXIO ? 0 : -errno;
        off_t hole = lseek(from_fd, data, SEEK_HOLE);
        if (hole < 0) return -errno;
        off_t in = data, out = data;
        while (in < hole) {
            ssize_t n = copy_file_range(from_fd, &in, to_fd, &out, (size_t)(hole - in), 0);
            if (n < 0) return -errno;
            if (n == 0) return 0;
        }
        at = hole;
    }
    return 0;
}

int cl_allocate(int fd, int64_t length) { return result(fallocate(fd, 0, 0, length)); }

int cl_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
    return result(mount(source, target, type, flags, data));
}

struct mount_call {
    const char *from, *source, *target, *type, *data;
    int result;
};

static void *mount_from(void *context) {
    struct mount_call *call = context;
    /* The working folder becomes this thread's own. */
    if (unshare(CLONE_FS) < 0 || chdir(call->from) < 0) call->result = -errno;
    else call->result = result(mount(call->source, call->target, call->type, 0, call->data));
    return NULL;
}

int cl_mount_from(const char *from, const char *source, const char *target, const char *type, const char *data) {
    struct mount_call call = { from, source, target, type, data, 0 };
    pthread_t thread;
    int error = pthread_create(&thread, NULL, mount_from, &call);
    if (error) return -error;
    pthread_join(thread, NULL);
    return call.result;
}

int cl_umount(const char *target, int detach) { return result(umount2(target, detach ? MNT_DETACH : 0)); }

int cl_enter_private_mounts(void) {
    if (unshare(CLONE_NEWNS) < 0) return -errno;
    return result(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
}

int64_t cl_fs_type(const char *path) {
    struct statfs fs;
    return statfs(path, &fs) < 0 ? -errno : (int64_t)fs.f_type;
}

int cl_loop_attach(int file_fd, int read_only, const char *name, int *device_fd) {
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0) return -errno;
    int saved = ENODEV;
    /* Another process may take the free device between the two calls: then ask again. */
    for (int attempt = 0; attempt < 64; attempt++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0) { saved = errno; break; }
        int fd = cl_loop_open(number);
        if (fd < 0) { saved = -fd; break; }
        struct loop_config config = { .fd = (uint32_t)file_fd };
        config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0);
        strncpy((char *)config.info.lo_file_name, name, LO_NAME_SIZE - 1);
        if (ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
            close(control);
            *device_fd = fd;
            return number;
        }
        saved = errno;
        close(fd);
        if (saved != EBUSY && saved != ENXIO) break;
    }
    close(control);
    return -saved;
}

int cl_loop_find(uint64_t dev, uint64_t ino, int *device_fd) {
    DIR *blocks = opendir("/sys/block");
    if (!blocks) return -errno;
    int found = -ENOENT;
    struct dirent *entry;
    while (found < 0 && (entry = readdir(blocks))) {
        int number;
        if (sscanf(entry->d_name, "loop%d", &number) != 1) continue;
        int fd = cl_loop_open(number);
        if (fd < 0) continue;
        struct loop_info64 info;
        if (ioctl(fd, LOOP_GET_STATUS64, &info) == 0 && info.lo_device == dev && info.lo_inode == ino) {
            found = number;
            *device_fd = fd;
        } else {
            close(fd);
        }
    }
    closedir(blocks);
    return found;
}

int cl_loop_open(int number) {
    char path[32];
    snprintf(path, sizeof path, "/dev/loop%d", number);
    return result(open(path, O_RDWR | O_CLOEXEC));
}

int cl_loop_refresh_size(int number) {
    int fd = cl_loop_open(number);
    if (fd < 0) return fd;
    int outcome = result(ioctl(fd, LOOP_SET_CAPACITY, 0));
    close(fd);
    return outcome;
}

int cl_opens(void) {
    return result(fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK,
                                O_RDONLY | O_NONBLOCK | O_NOATIME | O_LARGEFILE | O_CLOEXEC));
}

int cl_opens_add(int queue, const char *path, int whole) {
    unsigned kind = whole ? FAN_MARK_FILESYSTEM : FAN_MARK_MOUNT;
    return result(fanotify_mark(queue, FAN_MARK_ADD | kind, FAN_OPEN, AT_FDCWD, path));
}

int cl_opens_next(int queue, int *files, int capacity) {
    char buffer[64 * sizeof(struct fanotify_event_metadata)];
    size_t room = (size_t)capacity * sizeof(struct fanotify_event_metadata);
    /* A file that cannot be opened any more fails the read, and is taken off the queue by it. */
    for (int attempt = 0; attempt < 1000; attempt++) {
        ssize_t n = read(queue, buffer, room < sizeof buffer ? room : sizeof buffer);
        if (n == 0 || (n < 0 && errno == EAGAIN)) return 0;
        if (n < 0) continue;
        int count = 0;
        struct fanotify_event_metadata *event = (void *)buffer;
        for (; FAN_EVENT_OK(event, n); event = FAN_EVENT_NEXT(event, n))
            if (event->fd >= 0) files[count++] = event->fd;
        if (count > 0) return count;
    }
    return -EIO;
}

int cl_try_lock(int fd) { return result(flock(fd, LOCK_EX | LOCK_NB)); }

int cl_pidfd_open(pid_t pid) { return result(syscall(SYS_pidfd_open, pid, 0)); }

int cl_make_whiteout(int dirfd, const char *name) {
    return result(mknodat(dirfd, name, S_IFCHR | 0000, makedev(0, 0)));
}

int cl_mark_opaque(const char *path) { return result(lsetxattr(path, "trusted.overlay.opaque", "y", 1, 0)); }

int cl_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    return result(renameat2(from_dir, from, to_dir, to, flags));
}

ssize_t cl_getdents(int fd, void *buffer, size_t size) { return result(syscall(SYS_getdents64, fd, buffer, size)); }

int cl_set_attribute(int fd, const char *name, const void *value, size_t size) {
    return result(fsetxattr(fd, name, value, size, 0));
}

int cl_remove_attribute(int fd, const char *name) { return result(fremovexattr(fd, name)); }

ssize_t cl_get_attribute(int fd, const char *name, void *buffer, size_t size) {
    return result(fgetxattr(fd, name, buffer, size));
}

ssize_t cl_get_attribute_at(int dirfd, const char *file, const char *name, void *buffer, size_t size) {
    /* getxattrat(2) came with Linux 6.13; before it, the way through /proc is the only one that follows no link. */
    static int is_missing;
    struct { uint64_t value; uint32_t size, flags; } arguments = { (uint64_t)(uintptr_t)buffer, (uint32_t)size, 0 };
    if (!__atomic_load_n(&is_missing, __ATOMIC_RELAXED)) {
        long count = syscall(464, dirfd, file, AT_SYMLINK_NOFOLLOW, name, &arguments, sizeof arguments);
        if (count >= 0 || (errno != ENOSYS && errno != EPERM)) return result(count);
        __atomic_store_n(&is_missing, 1, __ATOMIC_RELAXED);
    }
    char path[320];
    int length = snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dirfd, file);
    if (length < 0 || (size_t)length >= sizeof path) return -ENAMETOOLONG;
    return result(lgetxattr(path, name, buffer, size));
}

int64_t cl_copy_range(int from_fd, int64_t from, int to_fd, int64_t to, size_t length) {
    off_t in = from, out = to;
    ssize_t count = copy_file_range(from_fd, &in, to_fd, &out, length, 0);
    return count < 0 ? -errno : count;
}

int64_t cl_send_file(int socket, int file, int64_t offset, size_t length) {
    off_t at = offset;
    ssize_t count = sendfile(socket, file, &at, length);
    return count < 0 ? -errno : count;
}

void cl_start_writeback(int fd, int64_t offset, int64_t length) { (void)sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE); }

int cl_write_data(int fd) {
    return result(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
}

void cl_event_set(int32_t *event, int32_t value) {
    __atomic_store_n(event, value, __ATOMIC_RELEASE);
    syscall(SYS_futex, event, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

int32_t cl_event_wait(int32_t *event) {
    int32_t value;
    while ((value = __atomic_load_n(event, __ATOMIC_ACQUIRE)) == 0) syscall(SYS_futex, event, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    return value;
}

int cl_listen(const char *host, int port, int *bound) {
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV }, *found;
    char service[8];
    snprintf(service, sizeof service, "%d", port);
    if (getaddrinfo(host, service, &hints, &found) != 0) return -EADDRNOTAVAIL;
    int saved = EADDRNOTAVAIL, fd = -1;
    for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
        int one = 1;
        fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
        if (fd < 0) { saved = errno; continue; }
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, 1024) == 0) break;
        saved = errno;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    if (fd < 0) return -saved;
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &size) == 0) {
        *bound = ntohs(name.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&name)->sin6_port : ((struct sockaddr_in *)&name)->sin_port);
    }
    return fd;
}

int cl_accept(int listener, int receive_seconds, int send_seconds) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) return -errno;
    int one = 1;
    struct timeval receiving = { .tv_sec = receive_seconds }, sending = { .tv_sec = send_seconds };
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &receiving, sizeof receiving);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &sending, sizeof sending);
    return fd;
}

struct thread_start { void (*body)(void *); void *context; };

static void *thread_main(void *start) {
    struct thread_start copy = *(struct thread_start *)start;
    free(start);
    copy.body(copy.context);
    return NULL;
}

int cl_start_thread(void (*body)(void *), void *context, size_t stack) {
    struct thread_start *start = malloc(sizeof *start);
    if (!start) return -ENOMEM;
    *start = (struct thread_start){ body, context };
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, stack);
    pthread_t thread;
    int failed = pthread_create(&thread, &attributes, thread_main, start);
    pthread_attr_destroy(&attributes);
    if (failed) free(start);
    return -failed;
}

pid_t cl_fork(void) { return result(fork()); }

int cl_become_subreaper(void) { return result(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)); }

int cl_child_signal_fd(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0) return -errno;
    return result(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

void cl_drain_signals(int fd) {
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof info) > 0) {}
}

int cl_pipe(int *read_fd, int *write_fd) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
    *read_fd = ends[0];
    *write_fd = ends[1];
    return 0;
}

pid_t cl_reap(int *exit_code, int *signal) {
    int status = 0;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return pid < 0 ? -errno : 0;
    *signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    *exit_code = WIFSIGNALED(status) ? 128 + *signal : WEXITSTATUS(status);
    return pid;
}

void cl_exec(const char *path, char *const argv[], int stdin_fd, int stdout_fd, int stderr_fd) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(stdin_fd, 0) < 0 || dup2(stdout_fd, 1) < 0 || dup2(stderr_fd, 2) < 0) _exit(126);
    execv(path, argv);
    _exit(127);
}
