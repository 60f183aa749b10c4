/* The small helper's inside, for tests: a program that does one thing after another over a folder that stands
 * for the guest's kernel, and the freezer as a library.
 *
 * A request is one letter, a length of 4 bytes (host order) and so many bytes; an answer is a length and
 * bytes: T  what is drawn from now on          B  a folder: begin anew     R  bytes of the port; what it
 * sends Y  a message's bytes: seal them       Q  struct state             V  eid, serial, sent, taken (8
 * each, big) C  an encoding: 1 where it is taken   S  stuff      U  unstuff    D  SHA-256 X  X25519 of a key
 * and a point        H  HKDF: size (1), secret, salt, info K  SHAKE-256: size (1), bytes; 2,000 bytes P  the
 * port's path   N  drain: ms (4) O  bytes of the port: take them, and be as if nothing had been said since
 * the hello Nothing outside is changed: no process gets a signal unless `probe_may_signal` is set, which a
 * play in namespaces of its own does, and nothing is credited: `kill` and `ioctl` are replaced, `root` is the
 * folder.
 */
#define main reseed_main
#define kill probe_kill
#define ioctl probe_ioctl
#define getrandom probe_getrandom
#include "../../guest/reseed.c"
#undef main
#undef kill
#undef ioctl
#include <stdlib.h>

int probe_may_signal;
static bool is_old;
static uint8_t draws[4096];
static size_t drawn;
static char folder[PATH_BYTES], hook_folder[PATH_BYTES];

struct state {
  uint8_t eid[16], host_head[32], head[32];
  uint64_t serial, sent, taken, next_request, known;
  uint8_t is_open, is_keyed, is_frozen, credits;
};
static struct state state;

int kill(pid_t pid, int number);
int ioctl(int device, unsigned long request, ...);

int probe_kill(pid_t pid, int number) { return probe_may_signal ? kill(pid, number) : 0; }

int probe_ioctl(int device, unsigned long request, ...) {
  if (is_old && request == _IO('R', 7)) {
    errno = EINVAL;
    return -1;
  }
  state.credits += device >= 0 && request != 0;
  return 0;
}

ssize_t probe_getrandom(void *to, size_t size, unsigned flags) {
  for (size_t i = 0; i < size; i++) ((uint8_t *)to)[i] = draws[drawn++ % sizeof draws];
  return flags ? (ssize_t)size : -1;
}

bool probe_begin(const char *state_folder, const char *kernel) {
  join(folder, sizeof folder, state_folder, NULL);
  join(hook_folder, sizeof hook_folder, state_folder, "/hooks", NULL);
  root = kernel;
  hooks.folder = hook_folder;
  stop_hooks();
  published.word = NULL;
  return begin(folder);
}

bool probe_freeze(uint64_t number, char *text, uint64_t *count) {
  bool all = freeze(number, text);
  *count = freezer.count;
  return all;
}

uint64_t probe_thaw(void) { return thaw(); }
bool probe_active(void) { return freezer.active; }

static size_t take_out(uint8_t *answer) {
  size_t size = session.out_size;
  memcpy(answer, session.out, size);
  session.out_size = 0;
  return size;
}

static size_t tell_state(uint8_t *answer) {
  memcpy(state.eid, standing.eid, 16);
  memcpy(state.host_head, session.host_head, 32);
  memcpy(state.head, session.head, 32);
  state.serial = standing.serial;
  state.sent = standing.sent;
  state.taken = standing.taken;
  state.next_request = standing.next_request;
  state.known = session.known;
  state.is_open = session.open;
  state.is_keyed = session.keyed;
  state.is_frozen = session.frozen;
  memcpy(answer, &state, sizeof state);
  return sizeof state;
}

static void set_standing(const uint8_t *data) {
  memcpy(standing.eid, data, 16);
  standing.known = true;
  standing.serial = get_big(data + 16, 8);
  standing.sent = get_big(data + 24, 8);
  standing.taken = get_big(data + 32, 8);
}

/* Say a message of any bytes at all. */
static size_t say_raw(const uint8_t *data, size_t size, uint8_t *answer) {
  struct message message = {0};
  put_raw(&message, data, size);
  say(&message);
  return take_out(answer);
}

static size_t take_bytes_of_port(const uint8_t *data, size_t size, uint8_t *answer) {
  receive(data, size);
  while (hooks.active && !session.frozen)
    if (step_hooks()) confirm();
  return take_out(answer);
}

/* Read an encoding where a sanitizer sees what is read beside it. */
static size_t check(const uint8_t *data, size_t size, uint8_t *answer) {
  struct cbor in;
  uint8_t *alone = malloc(size);
  if (size) memcpy(alone, data, size);
  answer[0] = begin_reading(&in, alone, size);
  free(alone);
  return 1;
}

static size_t do_request(uint8_t what, uint8_t *data, size_t size, uint8_t *answer) {
  struct sha256 hash;
  uint32_t wait;
  switch (what) {
  case 'T':
    memcpy(draws, data, size < sizeof draws ? size : sizeof draws);
    session.paired = false;
    return drawn = 0;
  case 'B':
    data[size] = 0;
    answer[0] = probe_begin((char *)data, strdup((char *)data));
    return 1;
  case 'R':
    return take_bytes_of_port(data, size, answer);
  case 'O':
    receive(data, size);
    stop_hooks();
    standing.sent = session.out_size = 0;
    memcpy(session.head, session.heads[0], 32);
    return 0;
  case 'E':
    is_old = data[0] != 0;
    return 0;
  case 'Y':
    return say_raw(data, size, answer);
  case 'Q':
    return tell_state(answer);
  case 'V':
    set_standing(data);
    return 0;
  case 'C':
    return check(data, size, answer);
  case 'S':
    return stuff(data, size, answer, 2 * FRAME_BYTES);
  case 'U':
    memcpy(answer, data, size);
    return unstuff(answer, size);
  case 'D':
    sha256_begin(&hash);
    sha256_add(&hash, data, size);
    sha256_end(&hash, answer);
    return 32;
  case 'X':
    x25519(answer, data, data + 32);
    return 32;
  case 'H':
    hkdf(data + 1, data + 33, data + 65, size - 65, answer, data[0]);
    return data[0];
  case 'K':
    memset(answer, 0, 2000);
    shake256_cross(data + 1, data[0], answer, 2000);
    return 2000;
  case 'P':
    return find_port((char *)answer) ? strlen((char *)answer) : 0;
  case 'N':
    memcpy(&wait, data, 4);
    answer[0] = (uint8_t)drain(STALE_BYTES, (int)wait);
    return 1;
  }
  _exit(3);
}

static void exactly(void *to, size_t size) {
  for (uint8_t *at = to; size;) {
    ssize_t got = read(0, at, size);
    if (got <= 0) _exit(got != 0);
    at += got;
    size -= (size_t)got;
  }
}

int main(void) {
  static uint8_t data[1 << 20], answer[1 << 20];
  uint8_t what;
  uint32_t size;
  for (;;) {
    exactly(&what, 1);
    exactly(&size, 4);
    if (size >= sizeof data) return 2;
    exactly(data, size);
    uint32_t told = (uint32_t)do_request(what, data, size, answer + 4);
    memcpy(answer, &told, 4);
    if (write(1, answer, told + 4) != (ssize_t)told + 4) return 1;
  }
}
