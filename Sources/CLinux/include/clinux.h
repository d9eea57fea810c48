#pragma once
#include <stdint.h>
#include <stddef.h>
#include <sys/types.h>

/* System calls that Glibc's Swift overlay does not show, or shows under a name Swift cannot call.
   Every function returns a value >= 0, or -errno: Swift reads errno too late, after its own calls. */

/* openat2(2). `resolve` is a mask of CL_RESOLVE_*. */
enum { CL_RESOLVE_NO_MAGICLINKS = 0x02, CL_RESOLVE_BENEATH = 0x08, CL_RESOLVE_IN_ROOT = 0x10 };
enum { CL_O_NOATIME = 01000000 };
int cl_openat2(int dirfd, const char *path, int flags, unsigned mode, uint64_t resolve);

/* copy_file_range(2) over the whole data of a sparse file: holes stay holes. Returns 0. */
int cl_copy_sparse(int from_fd, int to_fd);

/* fallocate(2) mode 0: reserves real blocks. */
int cl_allocate(int fd, int64_t length);

/* mount(2), umount2(2), unshare(CLONE_NEWNS) followed by making / a recursive slave. */
int cl_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data);
int cl_umount(const char *target, int detach);
/* mount(2) with relative paths in `data` taken from the folder `from`: many of them then fit into its one page. */
int cl_mount_from(const char *from, const char *source, const char *target, const char *type, const char *data);
int cl_enter_private_mounts(void);
enum { CL_MS_RDONLY = 1, CL_MS_NOSUID = 2, CL_MS_NODEV = 4, CL_MS_NOATIME = 1024 };
/* The statfs(2) f_type of a path, or -errno. */
int64_t cl_fs_type(const char *path);
enum { CL_TMPFS_MAGIC = 0x01021994, CL_CGROUP2_MAGIC = 0x63677270 };

/* Loop devices. Attach returns the device's number with its descriptor left open in *device_fd:
   autoclear frees a device at its last close, so it stays open until it is mounted. */
int cl_loop_attach(int file_fd, int read_only, const char *name, int *device_fd);
/* The number of the loop device whose backing file is (dev, ino), with its descriptor left open in *device_fd
   so that it cannot clear itself meanwhile; or -ENOENT. */
int cl_loop_find(uint64_t dev, uint64_t ino, int *device_fd);
int cl_loop_refresh_size(int number);
int cl_loop_open(int number);

/* fanotify(7): a queue of what is opened; never waits, keeps the first 16,384 (the kernel's own limit). */
int cl_opens(void);
/* Adds a mount, or with `whole` its filesystem wherever it is mounted. */
int cl_opens_add(int queue, const char *path, int whole);
/* Takes descriptors of files opened, for reading, oldest first. Returns how many, 0 when there are no more. */
int cl_opens_next(int queue, int *files, int capacity);

/* flock(2): exclusive, never waits. -EWOULDBLOCK when held elsewhere. */
int cl_try_lock(int fd);

/* pidfd_open(2). */
int cl_pidfd_open(pid_t pid);

/* Overlay whiteouts: a 0/0 character device, and the opaque mark on a directory. */
int cl_make_whiteout(int dirfd, const char *name);
int cl_mark_opaque(const char *path);

/* For the S3 door. renameat2(2); with CL_RENAME_NOREPLACE an existing name is -EEXIST. */
enum { CL_RENAME_NOREPLACE = 1, CL_RENAME_EXCHANGE = 2 };
int cl_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
/* One getdents64(2): bytes of `struct linux_dirent64` records, 0 at the end. */
ssize_t cl_getdents(int fd, void *buffer, size_t size);
/* Extended attributes, by descriptor, or by name below a directory's descriptor (symlinks are not followed). */
int cl_set_attribute(int fd, const char *name, const void *value, size_t size);
int cl_remove_attribute(int fd, const char *name);
ssize_t cl_get_attribute(int fd, const char *name, void *buffer, size_t size);
ssize_t cl_get_attribute_at(int dirfd, const char *file, const char *name, void *buffer, size_t size);
/* One copy_file_range(2): shares blocks where the filesystem can. */
int64_t cl_copy_range(int from_fd, int64_t from, int to_fd, int64_t to, size_t length);
/* One sendfile(2). */
int64_t cl_send_file(int socket, int file, int64_t offset, size_t length);
/* Begins to write dirty pages of a range to the disk without waiting for it. */
void cl_start_writeback(int fd, int64_t offset, int64_t length);
/* Writes a file's dirty pages and waits until the device has taken them. */
int cl_write_data(int fd);
/* One word that threads wait on: wait returns the first value other than 0 that set gave it. */
void cl_event_set(int32_t *event, int32_t value);
int32_t cl_event_wait(int32_t *event);
/* A listening TCP socket; its port in *bound. */
int cl_listen(const char *host, int port, int *bound);
/* accept4(2) with TCP_NODELAY and the given timeouts of receiving and sending, in seconds. */
int cl_accept(int listener, int receive_seconds, int send_seconds);
/* A thread that nobody joins, with `stack` bytes of stack. */
int cl_start_thread(void (*body)(void *), void *context, size_t stack);

/* For the monitor, a single-threaded process: fork(2), execv(3), subreaper, SIGCHLD as a descriptor. */
pid_t cl_fork(void);
int cl_become_subreaper(void);
int cl_child_signal_fd(void);
/* Reads a signal descriptor empty. */
void cl_drain_signals(int fd);
/* pipe2(2) with O_CLOEXEC. */
int cl_pipe(int *read_fd, int *write_fd);
/* Reaps one child without waiting: its pid, 0 when none has ended, -ECHILD when none is left. */
pid_t cl_reap(int *exit_code, int *signal);
void cl_exec(const char *path, char *const argv[], int stdin_fd, int stdout_fd, int stderr_fd);
