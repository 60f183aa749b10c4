/* Moves frames from taps to taps, as QEMU does without vhost, or pieces between sockets; tells what they cost.
 *
 * Standard input: how many ways there are, and how many pieces to send before what came is taken; for each way
 * the descriptors that it goes in and out by, the length of its pieces, and one of them. Then numbers of pieces:
 * each is answered by a line, processor time and time of the clock in ns, and how many came out. All numbers
 * have 4 bytes in the byte order of the machine.
 *
 * A write runs the bridge and its filters before it returns, in this thread: its processor time is that of the
 * whole way, and other processes' is not in it.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { MOST_WAYS = 64, LONGEST = 65536 };
static const int64_t PATIENCE_NS = 200000000; /* for what a busy kernel puts off */

struct way {
    int32_t in, out;
    uint32_t length;
    unsigned char piece[LONGEST];
};

static struct way ways[MOST_WAYS];
static uint32_t count, at_once;

static void need(void *to, size_t length)
{
    char *next = to;
    while (length) {
        ssize_t done = read(0, next, length);
        if (done <= 0)
            exit(done < 0);
        next += done;
        length -= done;
    }
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static uint64_t taken(const struct way *way)
{
    static unsigned char piece[2 * LONGEST];
    uint64_t found = 0;
    ssize_t length;
    while ((length = read(way->out, piece, sizeof piece)) > 0)
        found += length;
    return found;
}

/* Returns how much was taken meanwhile, to make room. */
static uint64_t sent(const struct way *way)
{
    size_t done = 0;
    uint64_t found = 0;
    while (done < way->length) {
        ssize_t length = write(way->in, way->piece + done, way->length - done);
        if (length > 0) {
            done += length;
        } else if (errno == EAGAIN) {
            found += taken(way);
        } else {
            perror("nothing can be sent");
            exit(1);
        }
    }
    return found;
}

static uint32_t moved(uint32_t pieces)
{
    uint64_t found = 0, wanted = (uint64_t)pieces * ways[0].length;
    uint32_t given = 0;
    int64_t last;
    while (given < pieces)
        for (uint32_t i = 0; i < count && given < pieces; i++) {
            for (uint32_t n = 0; n < at_once && given < pieces; n++, given++)
                found += sent(&ways[i]);
            found += taken(&ways[i]);
        }
    last = now_ns(CLOCK_MONOTONIC) + PATIENCE_NS;
    while (found < wanted && now_ns(CLOCK_MONOTONIC) < last)
        for (uint32_t i = 0; i < count; i++)
            found += taken(&ways[i]);
    return found / ways[0].length;
}

int main(void)
{
    need(&count, sizeof count);
    need(&at_once, sizeof at_once);
    if (!count || count > MOST_WAYS)
        return 2;
    for (uint32_t i = 0; i < count; i++) {
        need(&ways[i], 12);
        if (ways[i].length > LONGEST)
            return 2;
        need(ways[i].piece, ways[i].length);
    }
    for (;;) {
        uint32_t pieces, found;
        int64_t cpu, wall;
        need(&pieces, sizeof pieces);
        moved(pieces / 10); /* what others have put out of the caches */
        cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
        wall = now_ns(CLOCK_MONOTONIC);
        found = moved(pieces);
        printf("%lld %lld %u\n", (long long)(now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu),
               (long long)(now_ns(CLOCK_MONOTONIC) - wall), found);
        fflush(stdout);
    }
}
