
/*
 * Every second call on a stream socket fails with EAGAIN, and the others move
 * one byte: what a peer and a kernel may do at their worst.  To be preloaded;
 * it works in the children of the process that was started, which of nginx are
 * the workers.
 *
 * Events are edge-triggered, so who is told less than the truth would wait for
 * an edge that has been: the event is armed anew each time.
 *
 * The kernel is called without libc, as there may be calls before libraries
 * are ready.  sendmsg() and recvmsg() are left alone: on streams nginx uses
 * them for its messages to the workers only, which have a fixed length.
 */


#define _GNU_SOURCE

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>


#define EAGAIN_FDS    65536
#define EAGAIN_READ   0
#define EAGAIN_WRITE  1


typedef enum {
    EAGAIN_ALL = 0,
    EAGAIN_BYTE,
    EAGAIN_NONE
} eagain_how_e;


typedef struct {
    int                  ep;
    struct epoll_event   event;
    unsigned char        turn[2];
} eagain_fd_t;


static void eagain_start(void) __attribute__((constructor));
static void eagain_child(void);
static eagain_how_e eagain_how(int fd, int direction);
static ssize_t eagain_done(int fd, ssize_t n);
static ssize_t eagain_refuse(int fd);


static int          eagain_active;
static eagain_fd_t  eagain_fds[EAGAIN_FDS];


static void
eagain_start(void)
{
    pthread_atfork(NULL, NULL, eagain_child);
}


static void
eagain_child(void)
{
    eagain_active = 1;
}


static eagain_how_e
eagain_how(int fd, int direction)
{
    int        type, err;
    socklen_t  len;

    if (!eagain_active || fd < 0 || fd >= EAGAIN_FDS) {
        return EAGAIN_ALL;
    }

    err = errno;
    len = sizeof(type);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == -1) {
        errno = err;
        return EAGAIN_ALL;
    }

    if (type != SOCK_STREAM) {
        return EAGAIN_ALL;
    }

    eagain_fds[fd].turn[direction] ^= 1;

    return eagain_fds[fd].turn[direction] ? EAGAIN_NONE : EAGAIN_BYTE;
}


/* a descriptor that is polled no longer has no event to arm */

static ssize_t
eagain_done(int fd, ssize_t n)
{
    int  err;

    if (eagain_fds[fd].ep != 0) {
        err = errno;
        (void) syscall(SYS_epoll_ctl, eagain_fds[fd].ep, EPOLL_CTL_MOD, fd,
                       &eagain_fds[fd].event);
        errno = err;
    }

    return n;
}


static ssize_t
eagain_refuse(int fd)
{
    errno = EAGAIN;

    return eagain_done(fd, -1);
}


int
epoll_ctl(int ep, int op, int fd, struct epoll_event *event)
{
    int  rc;

    rc = syscall(SYS_epoll_ctl, ep, op, fd, event);

    if (rc == 0 && fd >= 0 && fd < EAGAIN_FDS) {
        eagain_fds[fd].ep = (op == EPOLL_CTL_DEL) ? 0 : ep;

        if (op != EPOLL_CTL_DEL) {
            eagain_fds[fd].event = *event;
        }
    }

    return rc;
}


ssize_t
read(int fd, void *buf, size_t size)
{
    switch (eagain_how(fd, EAGAIN_READ)) {

    case EAGAIN_BYTE:
        return eagain_done(fd, syscall(SYS_read, fd, buf, size > 0));

    case EAGAIN_NONE:
        return eagain_refuse(fd);

    default: /* EAGAIN_ALL */
        return syscall(SYS_read, fd, buf, size);
    }
}


ssize_t
readv(int fd, const struct iovec *iov, int n)
{
    switch (eagain_how(fd, EAGAIN_READ)) {

    case EAGAIN_BYTE:
        return eagain_done(fd, syscall(SYS_read, fd, iov->iov_base,
                                       iov->iov_len > 0));

    case EAGAIN_NONE:
        return eagain_refuse(fd);

    default: /* EAGAIN_ALL */
        return syscall(SYS_readv, fd, iov, n);
    }
}


/* who only looks is shown what there is */

ssize_t
recv(int fd, void *buf, size_t size, int flags)
{
    switch ((flags & MSG_PEEK) ? EAGAIN_ALL : eagain_how(fd, EAGAIN_READ)) {

    case EAGAIN_BYTE:
        return eagain_done(fd, syscall(SYS_recvfrom, fd, buf, size > 0, flags,
                                       NULL, NULL));

    case EAGAIN_NONE:
        return eagain_refuse(fd);

    default: /* EAGAIN_ALL */
        return syscall(SYS_recvfrom, fd, buf, size, flags, NULL, NULL);
    }
}


ssize_t
write(int fd, const void *buf, size_t size)
{
    switch (eagain_how(fd, EAGAIN_WRITE)) {

    case EAGAIN_BYTE:
        return eagain_done(fd, syscall(SYS_write, fd, buf, size > 0));

    case EAGAIN_NONE:
        return eagain_refuse(fd);

    default: /* EAGAIN_ALL */
        return syscall(SYS_write, fd, buf, size);
    }
}


ssize_t
writev(int fd, const struct iovec *iov, int n)
{
    switch (eagain_how(fd, EAGAIN_WRITE)) {

    case EAGAIN_BYTE:
        return eagain_done(fd, syscall(SYS_write, fd, iov->iov_base,
                                       iov->iov_len > 0));

    case EAGAIN_NONE:
        return eagain_refuse(fd);

    default: /* EAGAIN_ALL */
        return syscall(SYS_writev, fd, iov, n);
    }
}


ssize_t
send(int fd, const void *buf, size_t size, int flags)
{
    switch (eagain_how(fd, EAGAIN_WRITE)) {

    case EAGAIN_BYTE:
        return eagain_done(fd, syscall(SYS_sendto, fd, buf, size > 0, flags,
                                       NULL, 0));

    case EAGAIN_NONE:
        return eagain_refuse(fd);

    default: /* EAGAIN_ALL */
        return syscall(SYS_sendto, fd, buf, size, flags, NULL, 0);
    }
}


ssize_t
sendfile64(int out, int in, off64_t *offset, size_t size)
{
    switch (eagain_how(out, EAGAIN_WRITE)) {

    case EAGAIN_BYTE:
        return eagain_done(out, syscall(SYS_sendfile, out, in, offset,
                                        size > 0));

    case EAGAIN_NONE:
        return eagain_refuse(out);

    default: /* EAGAIN_ALL */
        return syscall(SYS_sendfile, out, in, offset, size);
    }
}


/* both have the same offset where the kernel has 64 bits */

ssize_t
sendfile(int out, int in, off_t *offset, size_t size)
{
    _Static_assert(sizeof(off_t) == sizeof(off64_t), "off_t has 64 bits");

    return sendfile64(out, in, (off64_t *) offset, size);
}
