/* Undercroft's small helper, for guests without Python: fresh randomness after every resume.
 *
 *     undercroft-reseed [--state FOLDER] [--port PATH] [--hooks FOLDER]
 *
 * The daemon, as root, on the port org.undercroft.channel.0. It follows docs/CHANNEL.md, version 1, and
 * shares no code with the host's side. What undercroft_guest.py does of seeds, quiescing and signs of life it
 * does too, with the same files, so that either may follow the other within a boot. It asks nothing of the
 * vault and has no local socket.
 *
 * Invariants: no memory is allocated; each buffer has a fixed size and each length is checked before it is
 * used; what was secret is wiped; whatever comes over the port costs at most the session.
 *
 * Parts, from the inside out: COBS, CBOR, SHA-256, SHAKE-256, X25519, sealing, files, standing, session, the
 * kernel, the freezer, hooks, the daemon.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HELPER "undercroft-reseed 1"
#define PORT_NAME "org.undercroft.channel.0"
enum { VERSION = 1 };
enum { HELLO = 1, ANSWER, AGAIN, UNABLE, SEALED };
enum { STARTED, GAP, PUT_BACK, UNREADABLE };
enum { WELCOME = 1, PING, QUIESCE, ANSWERS = 5 };
enum { CONFIRMED = 1, PONG, QUIESCED, THAWED, ABOUT = 6 };
enum { FRAME_BYTES = 65536, LINE_BYTES = FRAME_BYTES + FRAME_BYTES / 254 + 1, OUT_BYTES = 65536 };
enum { SAID_BYTES = 1024, HEADER_BYTES = 25, TEXT_AT = 40, HEADS = 512 };
enum { MAX_DEPTH = 8, MAX_ITEMS = 4096, MAX_UNREADABLE = 3, AGAIN_EVERY = 16 };
enum { START_MS = 100, AWAY_MS = 200, STEP_MS = 1000, REOPEN_MS = 1000, NO_PORT_MS = 500 };
enum { PATH_BYTES = 512, TEXT_BYTES = 200, NUMBER_BYTES = 21 };

static const char *root = ""; /* Before each path of the kernel's; tests put a folder there. */

static void put_big(uint8_t *to, uint64_t number, int bytes) {
  while (bytes--) {
    to[bytes] = (uint8_t)number;
    number >>= 8;
  }
}

static uint64_t get_big(const uint8_t *from, int bytes) {
  uint64_t number = 0;
  while (bytes--) number = number << 8 | *from++;
  return number;
}

/* COBS: frames without a zero byte inside. */

/* Stuff a frame into `line`, with the zero byte after it. Returns its size, 0 where that is above `most`. */
static size_t stuff(const uint8_t *frame, size_t size, uint8_t *line, size_t most) {
  size_t out = 0, at = 0;
  for (;;) {
    size_t run = 0;
    while (run < 254 && at + run < size && frame[at + run]) run++;
    if (out + run + 2 > most) return 0;
    line[out++] = (uint8_t)(run + 1);
    memcpy(line + out, frame + at, run);
    out += run;
    at += run;
    if (at == size) break;
    if (run < 254) at++; /* The zero byte that the run stands for: another run follows it. */
  }
  line[out++] = 0;
  return out;
}

/* Undo it in place, without the zero byte at the end. Returns the frame's size, 0 for what is none. */
static size_t unstuff(uint8_t *line, size_t size) {
  size_t out = 0, at = 0;
  while (at < size) {
    size_t code = line[at];
    if (code == 0 || code > size - at) return 0;
    memmove(line + out, line + at + 1, code - 1);
    out += code - 1;
    at += code;
    if (code != 255 && at < size) line[out++] = 0;
  }
  return out >= 3 && out <= FRAME_BYTES ? out : 0;
}

/* CBOR: the deterministic subset of docs/CHANNEL.md. */

struct cbor {
  const uint8_t *data;
  size_t size, at;
  uint64_t left; /* How many members there may be yet. */
};

/* Read what a value begins with: major type and number. False for longer forms and what is cut off. */
static bool take_head(struct cbor *in, int *major, uint64_t *number) {
  if (in->at == in->size) return false;
  uint8_t first = in->data[in->at++];
  *major = first >> 5;
  *number = first & 31;
  if (*number < 24) return true;
  if (*number > 27 || *major == 7) return false;
  int bytes = 1 << (*number - 24);
  if ((size_t)bytes > in->size - in->at) return false;
  *number = get_big(in->data + in->at, bytes);
  in->at += (size_t)bytes;
  return bytes == 1 ? *number >= 24 : *number >> 4 * bytes != 0;
}

/* Whether bytes are UTF-8: shortest forms, no surrogates, nothing above U+10FFFF. */
static bool is_utf8(const uint8_t *text, uint64_t size) {
  for (uint64_t at = 0; at < size;) {
    uint8_t first = text[at++];
    int more = first < 0x80 ? 0 : first >> 5 == 6 ? 1 : first >> 4 == 14 ? 2 : first >> 3 == 30 ? 3 : -1;
    if (more < 0 || (uint64_t)more > size - at) return false;
    uint32_t point = more ? first & (0x3F >> more) : first;
    for (int left = more; left; left--) {
      if (text[at] >> 6 != 2) return false;
      point = point << 6 | (text[at++] & 0x3F);
    }
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (point < least[more] || point > 0x10FFFF || point >> 11 == 0xD800 >> 11) return false;
  }
  return true;
}

static bool skip_value(struct cbor *in, int depth);

/* Go over a map's pairs: keys are numbers or texts, each after the one before in its encoding. */
static bool skip_pairs(struct cbor *in, uint64_t count, int depth) {
  const uint8_t *before = NULL;
  size_t before_size = 0;
  while (count--) {
    size_t begin = in->at;
    if (begin == in->size || (in->data[begin] >> 5 != 3 && in->data[begin] >> 5 > 1)) return false;
    if (!skip_value(in, depth)) return false;
    const uint8_t *key = in->data + begin;
    size_t size = in->at - begin, shorter = size < before_size ? size : before_size;
    int order = before ? memcmp(key, before, shorter) : 1;
    if (order < 0 || (order == 0 && size <= before_size)) return false;
    before = key;
    before_size = size;
    if (!skip_value(in, depth)) return false;
  }
  return true;
}

/* Go over one value of any kind. False for what is none of the subset's. */
static bool skip_value(struct cbor *in, int depth) {
  int major;
  uint64_t number;
  if (!take_head(in, &major, &number)) return false;
  if (major == 0) return true;
  if (major == 1) return number >> 63 == 0;
  if (major == 7) return number >= 20 && number <= 22;
  if (number > in->size - in->at) return false; /* Each member has at least one byte. */
  if (major < 4) {
    in->at += number;
    return major == 2 || is_utf8(in->data + in->at - number, number);
  }
  if (major == 6 || depth == MAX_DEPTH || number > in->left) return false;
  in->left -= number;
  if (major == 5) return skip_pairs(in, number, depth + 1);
  while (number--)
    if (!skip_value(in, depth + 1)) return false;
  return true;
}

/* Begin to read an encoding that has been gone over whole: one value, and nothing after it. */
static bool begin_reading(struct cbor *in, const uint8_t *data, size_t size) {
  *in = (struct cbor){data, size, 0, MAX_ITEMS};
  if (!skip_value(in, 0) || in->at != size) return false;
  in->at = 0;
  return true;
}

static bool take_array(struct cbor *in, uint64_t *count) {
  int major;
  return take_head(in, &major, count) && major == 4;
}

static bool take_number(struct cbor *in, uint64_t *number) {
  int major;
  return take_head(in, &major, number) && major == 0 && *number >> 63 == 0;
}

/* Take a byte string of exactly this size. */
static bool take_bytes(struct cbor *in, uint8_t *to, size_t size) {
  int major;
  uint64_t number;
  if (!take_head(in, &major, &number) || major != 2 || number != size || number > in->size - in->at)
    return false;
  memcpy(to, in->data + in->at, size);
  in->at += size;
  return true;
}

static bool take_null(struct cbor *in) {
  if (in->at == in->size || in->data[in->at] != 0xF6) return false;
  in->at++;
  return true;
}

/* What is to be said, as it is put together. What does not fit is found when it is sent. */
struct message {
  size_t size;
  bool full;
  uint8_t bytes[SAID_BYTES];
};

static void put_raw(struct message *out, const void *bytes, size_t size) {
  if (size > sizeof out->bytes - out->size) {
    out->full = true;
    return;
  }
  memcpy(out->bytes + out->size, bytes, size);
  out->size += size;
}

static void put_head(struct message *out, int major, uint64_t number) {
  uint8_t head[9];
  int bytes = number < 24 ? 0 : number >> 8 == 0 ? 1 : number >> 16 == 0 ? 2 : number >> 32 == 0 ? 4 : 8;
  int form = bytes == 0 ? (int)number : bytes == 1 ? 24 : bytes == 2 ? 25 : bytes == 4 ? 26 : 27;
  head[0] = (uint8_t)(major << 5 | form);
  put_big(head + 1, number, bytes);
  put_raw(out, head, (size_t)bytes + 1);
}

static void put_number(struct message *out, uint64_t number) { put_head(out, 0, number); }
static void put_array(struct message *out, uint64_t count) { put_head(out, 4, count); }
static void put_bool(struct message *out, bool value) { put_raw(out, value ? "\xf5" : "\xf4", 1); }

static void put_bytes(struct message *out, const uint8_t *bytes, size_t size) {
  put_head(out, 2, size);
  put_raw(out, bytes, size);
}

/* A text: what is no plain ASCII in it becomes a question mark. */
static void put_text(struct message *out, const char *text) {
  size_t size = strlen(text);
  put_head(out, 3, size);
  for (; *text; text++) put_raw(out, *text >= ' ' && *text < 127 ? text : "?", 1);
}

/* SHA-256 (FIPS 180-4), HMAC (RFC 2104), HKDF (RFC 5869). Keys have 32 bytes each, here. */

struct sha256 {
  uint32_t state[8];
  uint64_t size;
  uint8_t block[64];
};

static uint32_t right(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

static void sha256_block(uint32_t state[8], const uint8_t block[64]) {
  static const uint32_t constants[64] = {
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
      0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
      0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
      0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
      0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
      0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
      0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
      0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
  uint32_t words[64], now[8];
  for (int i = 0; i < 16; i++) words[i] = (uint32_t)get_big(block + 4 * i, 4);
  for (int i = 16; i < 64; i++) {
    uint32_t old = words[i - 15], late = words[i - 2];
    words[i] = words[i - 16] + words[i - 7] + (right(old, 7) ^ right(old, 18) ^ old >> 3) +
               (right(late, 17) ^ right(late, 19) ^ late >> 10);
  }
  memcpy(now, state, sizeof now);
  for (int i = 0; i < 64; i++) {
    uint32_t a = now[0], e = now[4];
    uint32_t one = now[7] + (right(e, 6) ^ right(e, 11) ^ right(e, 25)) + ((e & now[5]) ^ (~e & now[6])) +
                   constants[i] + words[i];
    uint32_t two =
        (right(a, 2) ^ right(a, 13) ^ right(a, 22)) + ((a & now[1]) ^ (a & now[2]) ^ (now[1] & now[2]));
    memmove(now + 1, now, 7 * sizeof now[0]);
    now[4] += one;
    now[0] = one + two;
  }
  for (int i = 0; i < 8; i++) state[i] += now[i];
  explicit_bzero(words, sizeof words);
  explicit_bzero(now, sizeof now);
}

static void sha256_begin(struct sha256 *hash) {
  static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  memcpy(hash->state, first, sizeof first);
  hash->size = 0;
}

static void sha256_add(struct sha256 *hash, const void *bytes, size_t size) {
  for (const uint8_t *from = bytes; size;) {
    size_t at = hash->size % 64, piece = size < 64 - at ? size : 64 - at;
    memcpy(hash->block + at, from, piece);
    hash->size += piece;
    from += piece;
    size -= piece;
    if (at + piece == 64) sha256_block(hash->state, hash->block);
  }
}

static void sha256_end(struct sha256 *hash, uint8_t digest[32]) {
  uint8_t bits[8];
  put_big(bits, hash->size * 8, 8);
  sha256_add(hash, "\x80", 1);
  while (hash->size % 64 != 56) sha256_add(hash, "", 1);
  sha256_add(hash, bits, 8);
  for (int i = 0; i < 8; i++) put_big(digest + 4 * i, hash->state[i], 4);
  explicit_bzero(hash, sizeof *hash);
}

struct hmac {
  struct sha256 inner, outer;
};

static void hmac_begin(struct hmac *mac, const uint8_t key[32]) {
  uint8_t pad[64];
  for (int i = 0; i < 64; i++) pad[i] = (uint8_t)((i < 32 ? key[i] : 0) ^ 0x36);
  sha256_begin(&mac->inner);
  sha256_add(&mac->inner, pad, 64);
  for (int i = 0; i < 64; i++) pad[i] ^= 0x36 ^ 0x5C;
  sha256_begin(&mac->outer);
  sha256_add(&mac->outer, pad, 64);
  explicit_bzero(pad, sizeof pad);
}

static void hmac_add(struct hmac *mac, const void *bytes, size_t size) {
  sha256_add(&mac->inner, bytes, size);
}

static void hmac_end(struct hmac *mac, uint8_t tag[32]) {
  sha256_end(&mac->inner, tag);
  sha256_add(&mac->outer, tag, 32);
  sha256_end(&mac->outer, tag);
}

/* Fill `made` with at most 255 x 32 bytes. */
static void hkdf(const uint8_t secret[32], const uint8_t salt[32], const void *info, size_t info_size,
                 uint8_t *made, size_t size) {
  struct hmac mac;
  uint8_t key[32], block[32];
  hmac_begin(&mac, salt);
  hmac_add(&mac, secret, 32);
  hmac_end(&mac, key);
  for (uint8_t turn = 1; size; turn++) {
    hmac_begin(&mac, key);
    if (turn > 1) hmac_add(&mac, block, 32);
    hmac_add(&mac, info, info_size);
    hmac_add(&mac, &turn, 1);
    hmac_end(&mac, block);
    size_t piece = size < 32 ? size : 32;
    memcpy(made, block, piece);
    made += piece;
    size -= piece;
  }
  explicit_bzero(key, sizeof key);
  explicit_bzero(block, sizeof block);
}

/* SHAKE-256 (FIPS 202). */

enum { RATE = 136 };

static uint64_t left(uint64_t word, int bits) { return bits ? word << bits | word >> (64 - bits) : word; }

static void keccak(uint64_t lanes[25]) {
  static const uint64_t rounds[24] = {
      0x0000000000000001, 0x0000000000008082, 0x800000000000808a, 0x8000000080008000, 0x000000000000808b,
      0x0000000080000001, 0x8000000080008081, 0x8000000000008009, 0x000000000000008a, 0x0000000000000088,
      0x0000000080008009, 0x000000008000000a, 0x000000008000808b, 0x800000000000008b, 0x8000000000008089,
      0x8000000000008003, 0x8000000000008002, 0x8000000000000080, 0x000000000000800a, 0x800000008000000a,
      0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008};
  for (int round = 0; round < 24; round++) {
    uint64_t column[5], moved[25];
    for (int x = 0; x < 5; x++)
      column[x] = lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20];
    for (int i = 0; i < 25; i++) lanes[i] ^= column[(i + 4) % 5] ^ left(column[(i + 1) % 5], 1);
    moved[0] = lanes[0];
    for (int x = 1, y = 0, turn = 0; turn < 24; turn++) { /* rho and pi, along the path of pi */
      int next = (2 * x + 3 * y) % 5;
      moved[y + 5 * next] = left(lanes[x + 5 * y], (turn + 1) * (turn + 2) / 2 % 64);
      x = y;
      y = next;
    }
    for (int i = 0; i < 25; i++) {
      int row = i - i % 5;
      lanes[i] = moved[i] ^ (~moved[row + (i + 1) % 5] & moved[row + (i + 2) % 5]);
    }
    lanes[0] ^= rounds[round];
  }
}

/* Cross a text in place with the stream of at most `RATE - 1` bytes: sealing and opening alike. */
static void shake256_cross(const uint8_t *seed, size_t seed_size, uint8_t *text, size_t size) {
  uint64_t lanes[25] = {0};
  for (size_t i = 0; i < seed_size; i++) lanes[i / 8] ^= (uint64_t)seed[i] << 8 * (i % 8);
  lanes[seed_size / 8] ^= (uint64_t)0x1F << 8 * (seed_size % 8);
  lanes[(RATE - 1) / 8] ^= (uint64_t)0x80 << 56;
  for (size_t i = 0; i < size; i++) {
    size_t at = i % RATE;
    if (at == 0) keccak(lanes);
    text[i] ^= (uint8_t)(lanes[at / 8] >> 8 * (at % 8));
  }
  explicit_bzero(lanes, sizeof lanes);
}

/* X25519 (RFC 7748). A number of the field is ten limbs of 26 and 25 bits in turns, signed, so that
 * differences need no care; no branch and no address depends on a secret. After `carry` limbs are within half
 * their width; the sum or difference of two such may be multiplied. */

typedef int64_t field[10];

static int width(int limb) { return 26 - (limb & 1); }

static void carry_limb(field number, int limb) {
  int64_t over = (number[limb] + ((int64_t)1 << (width(limb) - 1))) >> width(limb);
  number[limb] -= over * ((int64_t)1 << width(limb));
  if (limb < 9) number[limb + 1] += over;
  else number[0] += 19 * over; /* 2^255 is 19 */
}

static void carry(field number) {
  for (int limb = 0; limb < 10; limb++) carry_limb(number, limb);
  carry_limb(number, 0);
}

static void add(field out, const field one, const field other) {
  for (int i = 0; i < 10; i++) out[i] = one[i] + other[i];
}

static void subtract(field out, const field one, const field other) {
  for (int i = 0; i < 10; i++) out[i] = one[i] - other[i];
}

static void multiply(field out, const field one, const field other) {
  int64_t sum[20] = {0};
  for (int i = 0; i < 10; i++)
    for (int j = 0; j < 10; j++)
      sum[i + j] += one[i] * other[j] * (1 + (i & j & 1)); /* odd limbs count half a bit less */
  for (int i = 0; i < 10; i++) out[i] = sum[i] + 19 * sum[i + 10];
  carry(out);
}

static void swap(field one, field other, int64_t bit) {
  for (int i = 0; i < 10; i++) {
    int64_t both = (one[i] ^ other[i]) & -bit;
    one[i] ^= both;
    other[i] ^= both;
  }
}

/* Raise to p - 2 = 2^255 - 21, whose bits are all set but two: the inverse, and 0 for 0. */
static void invert(field out, const field number) {
  field power;
  memcpy(power, number, sizeof power);
  for (int bit = 253; bit >= 0; bit--) {
    multiply(power, power, power);
    if (bit != 2 && bit != 4) multiply(power, power, number);
  }
  memcpy(out, power, sizeof power);
}

static void load(field out, const uint8_t bytes[32]) {
  uint64_t held = 0;
  int bits = 0;
  for (int limb = 0, at = 0; limb < 10; limb++) {
    for (; bits < width(limb); bits += 8) held |= (uint64_t)bytes[at++] << bits;
    out[limb] = (int64_t)(held & (((uint64_t)1 << width(limb)) - 1)); /* the last leaves the top bit out */
    held >>= width(limb);
    bits -= width(limb);
  }
  carry(out);
}

/* Write the one number below p that is the same: first find how often p is in it. */
static void store(uint8_t bytes[32], const field number) {
  field whole;
  memcpy(whole, number, sizeof whole);
  int64_t times = (19 * whole[9] + ((int64_t)1 << 24)) >> 25;
  for (int limb = 0; limb < 10; limb++) times = (whole[limb] + times) >> width(limb);
  whole[0] += 19 * times;
  uint64_t held = 0;
  for (int limb = 0, bits = 0, at = 0; limb < 10; limb++) {
    int64_t over = whole[limb] >> width(limb);
    held |= (uint64_t)(whole[limb] - over * ((int64_t)1 << width(limb))) << bits;
    if (limb < 9) whole[limb + 1] += over;
    for (bits += width(limb); bits >= 8 || (limb == 9 && bits > 0); bits -= 8, held >>= 8)
      bytes[at++] = (uint8_t)held;
  }
}

static const uint8_t base_point[32] = {9};

static void x25519(uint8_t out[32], const uint8_t private[32], const uint8_t public[32]) {
  field x1, x2 = {1}, z2 = {0}, x3, z3 = {1}, total, gap, across, along, other;
  uint8_t key[32];
  memcpy(key, private, 32);
  key[0] &= 248;
  key[31] = (uint8_t)((key[31] & 127) | 64);
  load(x1, public);
  memcpy(x3, x1, sizeof x3);
  for (int bit = 254; bit >= 0; bit--) {
    int64_t set = key[bit / 8] >> bit % 8 & 1;
    swap(x2, x3, set);
    swap(z2, z3, set);
    add(total, x2, z2);
    subtract(gap, x2, z2);
    add(along, x3, z3);
    subtract(across, x3, z3);
    multiply(across, across, total);
    multiply(along, along, gap);
    multiply(total, total, total);
    multiply(other, gap, gap);
    subtract(gap, total, other);
    add(x3, across, along);
    multiply(x3, x3, x3);
    subtract(z3, across, along);
    multiply(z3, z3, z3);
    multiply(z3, z3, x1);
    multiply(x2, total, other);
    for (int i = 0; i < 10; i++) along[i] = 121665 * gap[i];
    carry(along);
    add(along, along, total);
    multiply(z2, gap, along);
    swap(x2, x3, set);
    swap(z2, z3, set);
  }
  invert(z2, z2);
  multiply(x2, x2, z2);
  store(out, x2);
  field *all[] = {&x2, &z2, &x3, &z3, &total, &gap, &across, &along, &other};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) explicit_bzero(all[i], sizeof(field));
  explicit_bzero(key, sizeof key);
}

/* Sealing: docs/CHANNEL.md, "Sealing". A frame is type, number (8), tag (16), text. */

struct keys {
  uint8_t mac[32], stream[32];
};

static void tag_of(const struct keys *keys, const uint8_t *frame, size_t size, uint8_t tag[32]) {
  struct hmac mac;
  hmac_begin(&mac, keys->mac);
  hmac_add(&mac, frame, 9);
  hmac_add(&mac, frame + HEADER_BYTES, size - HEADER_BYTES);
  hmac_end(&mac, tag);
}

static void cross(const struct keys *keys, uint8_t *frame, size_t size) {
  uint8_t seed[32 + 24];
  memcpy(seed, keys->stream, 32);
  memcpy(seed + 32, frame + 1, 24);
  shake256_cross(seed, sizeof seed, frame + HEADER_BYTES, size - HEADER_BYTES);
  explicit_bzero(seed, sizeof seed);
}

/* Seal a frame in place: its text stands where its cipher text will. */
static void seal(const struct keys *keys, uint64_t number, uint8_t *frame, size_t size) {
  uint8_t tag[32];
  frame[0] = SEALED;
  put_big(frame + 1, number, 8);
  tag_of(keys, frame, size, tag);
  memcpy(frame + 9, tag, 16);
  cross(keys, frame, size);
}

/* Open a frame in place, of at least a header. False for one that these keys did not seal. */
static bool unseal(const struct keys *keys, uint8_t *frame, size_t size) {
  uint8_t tag[32], differ = 0;
  cross(keys, frame, size);
  tag_of(keys, frame, size, tag);
  for (int i = 0; i < 16; i++) differ |= (uint8_t)(tag[i] ^ frame[9 + i]);
  return differ == 0;
}

/* The tag that only who has this seed can make. */
static void confirmation(const uint8_t seed[32], const uint8_t machine[16], const uint8_t eid[16],
                         uint64_t generation, uint8_t tag[32]) {
  static const char label[] = "undercroft confirm 1";
  static const uint8_t no_salt[32];
  uint8_t info[sizeof label - 1 + 40], key[32];
  memcpy(info, label, sizeof label - 1);
  memcpy(info + sizeof label - 1, machine, 16);
  memcpy(info + sizeof label + 15, eid, 16);
  put_big(info + sizeof label + 31, generation, 8);
  hkdf(seed, no_salt, info, sizeof info, key, 32);
  struct hmac mac;
  hmac_begin(&mac, key);
  hmac_add(&mac, info, sizeof info);
  hmac_end(&mac, tag);
  explicit_bzero(key, sizeof key);
}

/* Files, folders, texts: without the C library's buffers. */

static int64_t now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void wait_ms(int64_t wait) {
  struct timespec time = {wait / 1000, wait % 1000 * 1000000};
  nanosleep(&time, NULL);
}

static void complain(const char *what) {
  static const char head[] = "undercroft-reseed: ";
  if (write(2, head, sizeof head - 1) < 0 || write(2, what, strlen(what)) < 0 || write(2, "\n", 1) < 0)
    return;
}

static const char *text_of(uint64_t number, char held[NUMBER_BYTES]) {
  char *at = held + NUMBER_BYTES - 1;
  *at = 0;
  do *--at = (char)('0' + number % 10);
  while (number /= 10);
  return at;
}

/* Read a number of digits only; false for anything else. */
static bool number_of(const char *text, uint64_t *number) {
  *number = 0;
  if (!*text || strlen(text) > 19) return false;
  for (; *text; text++) {
    if (*text < '0' || *text > '9') return false;
    *number = *number * 10 + (uint64_t)(*text - '0');
  }
  return true;
}

/* Join texts, the last one NULL. False, and "", where they are too long. */
static bool join(char *to, size_t most, ...) {
  va_list parts;
  size_t size = 0;
  bool fits = true;
  va_start(parts, most);
  for (const char *part; fits && (part = va_arg(parts, const char *));) {
    size_t more = strlen(part);
    fits = more < most - size;
    if (fits) memcpy(to + size, part, more);
    if (fits) size += more;
  }
  va_end(parts);
  to[fits ? size : 0] = 0;
  return fits;
}

#define PATH(name, ...)                                                                                      \
  char name[PATH_BYTES];                                                                                     \
  join(name, sizeof name, __VA_ARGS__, NULL)

static bool exists(const char *path) { return access(path, F_OK) == 0; }

/* Read a small file whole, as a text. Returns its size, -1 where it cannot be read or is larger. */
static ssize_t read_file(const char *path, char *to, size_t most) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t size = 0, got = -1;
  while (file >= 0 && (size_t)size < most && (got = read(file, to + size, most - (size_t)size)) > 0)
    size += got;
  if (file >= 0) close(file);
  to[got == 0 ? size : 0] = 0;
  return got == 0 ? size : -1;
}

static bool write_file(const char *path, const char *text, int flags) {
  int file = open(path, O_WRONLY | O_CLOEXEC | flags, 0644);
  if (file < 0) return false;
  ssize_t size = (ssize_t)strlen(text), put = write(file, text, (size_t)size);
  return close(file) == 0 && put == size;
}

/* A file's lines, one after another; those that are too long are left out. */
struct lines {
  int file;
  size_t at, end;
  char held[4096];
};

static bool open_lines(struct lines *lines, const char *path) {
  lines->file = open(path, O_RDONLY | O_CLOEXEC);
  lines->at = lines->end = 0;
  return lines->file >= 0;
}

/* Return the next line without its end; NULL, and the file closed, where there is none. */
static char *next_line(struct lines *lines) {
  bool skipping = false;
  for (;;) {
    char *begin = lines->held + lines->at, *end = memchr(begin, '\n', lines->end - lines->at);
    if (end) {
      *end = 0;
      lines->at = (size_t)(end - lines->held) + 1;
      if (!skipping) return begin;
      skipping = false;
      continue;
    }
    memmove(lines->held, begin, lines->end - lines->at);
    lines->end -= lines->at;
    lines->at = 0;
    if (lines->end == sizeof lines->held) skipping = true;
    if (skipping) lines->end = 0;
    ssize_t got = read(lines->file, lines->held + lines->end, sizeof lines->held - lines->end);
    if (got <= 0) break;
    lines->end += (size_t)got;
  }
  close(lines->file);
  return NULL;
}

/* A folder's names, one after another. `readdir` would allocate. */
struct folder {
  int file;
  long at, end;
  _Alignas(8) char held[4096];
};

struct entry { /* linux_dirent64 */
  uint64_t inode;
  int64_t offset;
  uint16_t size;
  uint8_t type;
  char name[];
};

static bool open_folder(struct folder *folder, const char *path) {
  folder->file = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  folder->at = folder->end = 0;
  return folder->file >= 0;
}

/* Return the next name; NULL, and the folder closed, where there is none. */
static const char *next_name(struct folder *folder) {
  for (;;) {
    if (folder->at >= folder->end) {
      folder->end = syscall(SYS_getdents64, folder->file, folder->held, sizeof folder->held);
      folder->at = 0;
      if (folder->end <= 0) break;
    }
    const struct entry *entry = (const void *)(folder->held + folder->at);
    folder->at += entry->size;
    if (strcmp(entry->name, ".") && strcmp(entry->name, "..")) return entry->name;
  }
  close(folder->file);
  return NULL;
}

/* Standing: what a rewind would put back, in a mapped file on a tmpfs that outlives this process and not the
 * boot. Two slots are written in turns, so that a helper that is killed while it writes leaves one whole. The
 * file is that of undercroft_guest.py: 16 bytes of the boot, and from 64 and 160 on a turn (8), eid (16),
 * serial, sent, taken, next request (8 each) and the CRC-32 of those. */

enum { PAGE_BYTES = 256, SLOT_BYTES = 56, SLOTS_AT = 64, SLOTS_APART = 96 };

static struct {
  uint8_t *page, eid[16];
  bool known;
  uint64_t turn, serial, sent, taken, next_request;
} standing;

static uint32_t crc32(const uint8_t *bytes, size_t size) {
  uint32_t sum = ~0u;
  while (size--) {
    sum ^= *bytes++;
    for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (sum & 1 ? 0xEDB88320 : 0);
  }
  return ~sum;
}

/* Write the slot whose turn it is. */
static void keep_standing(void) {
  uint8_t slot[SLOT_BYTES + 4];
  put_big(slot, ++standing.turn, 8);
  memcpy(slot + 8, standing.eid, 16);
  put_big(slot + 24, standing.serial, 8);
  put_big(slot + 32, standing.sent, 8);
  put_big(slot + 40, standing.taken, 8);
  put_big(slot + 48, standing.next_request, 8);
  put_big(slot + SLOT_BYTES, crc32(slot, SLOT_BYTES), 4);
  memcpy(standing.page + SLOTS_AT + (standing.turn & 1 ? 0 : SLOTS_APART), slot, sizeof slot);
}

static void read_slot(const uint8_t *slot) {
  if (get_big(slot + SLOT_BYTES, 4) != crc32(slot, SLOT_BYTES) || get_big(slot, 8) <= standing.turn) return;
  static const uint8_t none[16];
  memcpy(standing.eid, slot + 8, 16);
  standing.known = memcmp(standing.eid, none, 16) != 0;
  standing.turn = get_big(slot, 8);
  standing.serial = get_big(slot + 24, 8);
  standing.sent = get_big(slot + 32, 8);
  standing.taken = get_big(slot + 40, 8);
  standing.next_request = get_big(slot + 48, 8);
}

/* Map the file of this boot, made anew where it is of another one or of none. */
static bool open_standing(const char *folder, const uint8_t boot[16]) {
  PATH(path, folder, "/standing");
  PATH(new, path, ".new");
  uint8_t first[PAGE_BYTES] = {0};
  struct stat about;
  if (standing.page) munmap(standing.page, PAGE_BYTES);
  memset(&standing, 0, sizeof standing);
  standing.next_request = 1;
  int file = open(path, O_RDWR | O_CLOEXEC);
  if (file < 0 || fstat(file, &about) || about.st_size != PAGE_BYTES || read(file, first, 16) != 16 ||
      memcmp(first, boot, 16)) {
    if (file >= 0) close(file);
    memcpy(first, boot, 16);
    file = open(new, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) return false;
    if (fchmod(file, 0600) || write(file, first, PAGE_BYTES) != PAGE_BYTES || rename(new, path)) {
      close(file);
      return false;
    }
  }
  standing.page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (standing.page == MAP_FAILED) {
    standing.page = NULL;
    return false;
  }
  for (int slot = 0; slot < 2; slot++) read_slot(standing.page + SLOTS_AT + slot * SLOTS_APART);
  return true;
}

/* Session: bytes in; what is to be sent gathers in `out`. */

static struct {
  uint8_t boot[16], machine[16], nonce[16];
  bool frozen;      /* as the freezer says */
  bool keyed, open; /* a hello was answered; the host has welcomed */
  bool paired;      /* the next session's key pair is drawn */
  uint8_t private[32], public[32];
  struct keys host, guest;
  uint8_t host_head[32], head[32], heads[HEADS][32]; /* heads by number, modulo HEADS, from `known` on */
  uint64_t known;                                    /* how many of the guest's frames the host has taken */
  unsigned unreadable, asked;
  bool skipping; /* to the next zero byte */
  size_t line_size, out_size;
  uint8_t line[LINE_BYTES], out[OUT_BYTES];
} session;

static void welcomed(uint64_t generation, const uint8_t *seed);
static void quiesce(uint64_t number);

/* Fill with the kernel's random bytes, also of one that is not seeded yet: it is who waits for a seed, and
 * what the channel's keys rest on is the host's. */
static void draw(uint8_t *to, size_t size) {
  if (getrandom(to, size, GRND_NONBLOCK) == (ssize_t)size) return;
  int device = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
  ssize_t got = device < 0 ? -1 : read(device, to, size);
  if (device >= 0) close(device);
  if (got == (ssize_t)size) return;
  while (getrandom(to, size, 0) != (ssize_t)size) wait_ms(REOPEN_MS); /* it waits, but for want of all else */
}

/* Add a frame to what goes out, after a zero byte where it begins something. False where there is no room. */
static bool queue(const uint8_t *frame, size_t size, bool begins) {
  size_t room = OUT_BYTES - session.out_size - begins;
  if (session.out_size + begins > OUT_BYTES) return false;
  size_t stuffed = stuff(frame, size, session.out + session.out_size + begins, room);
  if (!stuffed) return false;
  if (begins) session.out[session.out_size] = 0;
  session.out_size += stuffed + begins;
  return true;
}

/* The session is over, and what was to be sent in it. */
static void forget(void) {
  session.keyed = session.open = false;
  session.unreadable = 0;
  session.out_size = 0;
  explicit_bzero(&session.host, sizeof session.host);
  explicit_bzero(&session.guest, sizeof session.guest);
}

/* Ask for another session: at once, and then with every sixteenth reason to. */
static void again(int reason) {
  uint8_t frame[] = {AGAIN, 0x81, (uint8_t)reason};
  if (session.asked++ % AGAIN_EVERY == 0) queue(frame, sizeof frame, true);
}

static void lose(int reason) {
  forget();
  again(reason);
}

/* Draw the next session's key pair ahead, so that a resumed guest is quicker. That costs nothing: a guest
 * that was just resumed would draw what it drew before anyway. */
static void prepare(void) {
  if (session.paired) return;
  draw(session.private, 32);
  x25519(session.public, session.private, base_point);
  session.paired = true;
}

/* Seal a message into what goes out. It is counted before it is sent: docs/CHANNEL.md, "Rewinds". */
static void say(const struct message *message) {
  static uint8_t frame[HEADER_BYTES + TEXT_AT + SAID_BYTES];
  size_t size = HEADER_BYTES + TEXT_AT + message->size;
  if (!session.keyed || message->full || standing.sent - session.known >= HEADS - 1) {
    lose(UNREADABLE);
    return;
  }
  put_big(frame + HEADER_BYTES, standing.taken, 8);
  memcpy(frame + HEADER_BYTES + 8, session.host_head, 32);
  memcpy(frame + HEADER_BYTES + TEXT_AT, message->bytes, message->size);
  standing.sent++;
  keep_standing();
  seal(&session.guest, standing.sent, frame, size);
  struct sha256 hash;
  sha256_begin(&hash);
  sha256_add(&hash, session.head, 32);
  sha256_add(&hash, frame, size);
  sha256_end(&hash, session.head);
  memcpy(session.heads[standing.sent % HEADS], session.head, 32);
  if (!queue(frame, size, false)) lose(UNREADABLE); /* the host does not read */
}

static void begin_head(uint8_t head[32], const char *label, const uint8_t told[32]) {
  struct sha256 hash;
  sha256_begin(&hash);
  sha256_add(&hash, label, strlen(label));
  sha256_add(&hash, told, 32);
  sha256_end(&hash, head);
}

/* What the host said to begin a session. */
struct hello {
  uint8_t machine[16], eid[16], nonce[16], key[32];
  uint64_t serial;
};

/* Read a hello; `able` says whether it has this version. False where it is malformed. */
static bool read_hello(const uint8_t *frame, size_t size, struct hello *hello, bool *able) {
  struct cbor in;
  uint64_t parts, versions, number;
  *able = false;
  if (!begin_reading(&in, frame + 1, size - 1) || !take_array(&in, &parts) || !parts) return false;
  if (!take_array(&in, &versions)) return false;
  while (versions--) {
    size_t at = in.at;
    if (take_number(&in, &number)) *able |= number == VERSION;
    else in.at = at;
    if (in.at == at && !skip_value(&in, 2)) return false;
  }
  if (!*able) return true;
  return parts == 6 && take_bytes(&in, hello->machine, 16) && take_bytes(&in, hello->eid, 16) &&
         take_number(&in, &hello->serial) && take_bytes(&in, hello->nonce, 16) &&
         take_bytes(&in, hello->key, 32);
}

/* Hash both frames of the handshake, each with its length before it. */
static void transcript(const uint8_t *frame, size_t size, const struct message *body, uint8_t told[32]) {
  static const char label[] = "undercroft transcript 1";
  struct sha256 hash;
  uint8_t length[4];
  sha256_begin(&hash);
  sha256_add(&hash, label, sizeof label - 1);
  put_big(length, size, 4);
  sha256_add(&hash, length, 4);
  sha256_add(&hash, frame, size);
  put_big(length, body->size, 4);
  sha256_add(&hash, length, 4);
  sha256_add(&hash, body->bytes, body->size);
  sha256_end(&hash, told);
}

static void put_standing(struct message *out) {
  if (!standing.known) {
    put_raw(out, "\xf6", 1);
    return;
  }
  put_array(out, 4);
  put_bytes(out, standing.eid, 16);
  put_number(out, standing.serial);
  put_number(out, standing.sent);
  put_number(out, standing.taken);
}

/* Make the keys of a session, and send the answer with its tag before its body. */
static void answer(const struct hello *hello, const uint8_t secret[32], const struct message *body,
                   const uint8_t told[32]) {
  static const char label[] = "undercroft channel 1";
  uint8_t salt[32], info[sizeof label - 1 + 64], made[160], tag[32], frame[17 + SAID_BYTES];
  struct hmac mac;
  memcpy(salt, hello->nonce, 16);
  memcpy(salt + 16, session.nonce, 16);
  memcpy(info, label, sizeof label - 1);
  memcpy(info + sizeof label - 1, hello->machine, 16);
  memcpy(info + sizeof label + 15, hello->eid, 16);
  memcpy(info + sizeof label + 31, told, 32);
  hkdf(secret, salt, info, sizeof info, made, sizeof made);
  memcpy(&session.host, made, 64);
  memcpy(&session.guest, made + 64, 64);
  hmac_begin(&mac, made + 128);
  hmac_add(&mac, told, 32);
  hmac_end(&mac, tag);
  explicit_bzero(made, sizeof made);
  frame[0] = ANSWER;
  memcpy(frame + 1, tag, 16);
  memcpy(frame + 17, body->bytes, body->size);
  session.keyed = queue(frame, 17 + body->size, true);
}

static bool take_hello(const uint8_t *frame, size_t size) {
  static const uint8_t zeros[32], unable[] = {UNABLE, 0x81, 0x81, VERSION};
  struct hello hello;
  bool able;
  bool whole = read_hello(frame, size, &hello, &able);
  if (!whole) return false;
  forget();
  if (!able) {
    queue(unable, sizeof unable, true);
    return true;
  }
  uint8_t secret[32], told[32];
  struct message body = {0};
  prepare();
  draw(session.nonce, 16);
  x25519(secret, session.private, hello.key);
  explicit_bzero(session.private, 32);
  session.paired = false;
  if (!memcmp(secret, zeros, 32)) return false; /* a key of small order */
  put_array(&body, 7);
  put_number(&body, VERSION);
  put_bytes(&body, hello.nonce, 16);
  put_bytes(&body, session.nonce, 16);
  put_bytes(&body, session.public, 32);
  put_bytes(&body, session.boot, 16);
  put_standing(&body);
  put_bool(&body, session.frozen);
  transcript(frame, size, &body, told);
  begin_head(session.head, "undercroft head 1g", told);
  begin_head(session.host_head, "undercroft head 1h", told);
  memcpy(session.heads[0], session.head, 32);
  session.known = 0;
  memcpy(session.machine, hello.machine, 16);
  memcpy(standing.eid, hello.eid, 16);
  standing.known = true;
  standing.serial = hello.serial;
  standing.sent = standing.taken = 0;
  keep_standing();
  answer(&hello, secret, &body, told);
  explicit_bzero(secret, sizeof secret);
  return true;
}

static bool take_welcome(struct cbor *in) {
  uint8_t nonce[16], seed[32];
  uint64_t generation, following;
  if (!take_bytes(in, nonce, 16) || memcmp(nonce, session.nonce, 16)) return false;
  if (!take_number(in, &generation) || !generation) return false;
  bool none = take_null(in);
  if ((!none && !take_bytes(in, seed, 32)) || !take_number(in, &following)) return false;
  session.open = true;
  session.asked = 0;
  if (following > standing.next_request) standing.next_request = following;
  welcomed(generation, none ? NULL : seed);
  explicit_bzero(seed, sizeof seed);
  return true;
}

static bool take_message(const uint8_t *data, size_t size) {
  struct cbor in;
  uint64_t parts, kind, number;
  if (!begin_reading(&in, data, size) || !take_array(&in, &parts) || !parts || !take_number(&in, &kind))
    return false;
  if (!session.open) return kind == WELCOME && parts == 5 && take_welcome(&in);
  if (kind == ANSWERS) return parts == 3; /* to what an earlier helper of this boot has asked */
  if (parts != 2 || !take_number(&in, &number)) return false;
  if (kind == PING) {
    struct message pong = {0};
    put_array(&pong, 2);
    put_number(&pong, PONG);
    put_number(&pong, number);
    say(&pong);
    return true;
  }
  if (kind == QUIESCE) quiesce(number);
  return kind == QUIESCE;
}

/* Take a sealed frame, in the order of docs/CHANNEL.md, "Taking a sealed frame". False: it is malformed. */
static bool take_sealed(uint8_t *frame, size_t size) {
  uint8_t was[32], hashed[32];
  struct sha256 hash;
  if (!session.keyed || size < HEADER_BYTES + TEXT_AT + 1) {
    if (++session.unreadable >= MAX_UNREADABLE || !session.keyed) again(UNREADABLE);
    return true;
  }
  sha256_begin(&hash); /* of the frame as it came: it is opened in place */
  sha256_add(&hash, session.host_head, 32);
  sha256_add(&hash, frame, size);
  sha256_end(&hash, hashed);
  if (!unseal(&session.host, frame, size)) {
    if (++session.unreadable >= MAX_UNREADABLE) again(UNREADABLE);
    return true;
  }
  uint64_t number = get_big(frame + 1, 8), known = get_big(frame + HEADER_BYTES, 8);
  if (number <= standing.taken) return true;
  if (number != standing.taken + 1) {
    lose(GAP);
    return true;
  }
  memcpy(was, session.heads[known % HEADS], 32);
  if (known > standing.sent || known < session.known || memcmp(was, frame + HEADER_BYTES + 8, 32)) {
    lose(PUT_BACK);
    return true;
  }
  session.known = known;
  session.unreadable = 0;
  standing.taken = number; /* kept with what is sent next: the host knows no sooner of it */
  memcpy(session.host_head, hashed, 32);
  return take_message(frame + HEADER_BYTES + TEXT_AT, size - HEADER_BYTES - TEXT_AT);
}

static void take_line(void) {
  size_t size = unstuff(session.line, session.line_size);
  if (!size) return;
  bool fine = true;
  if (session.line[0] == HELLO) fine = take_hello(session.line, size);
  else if (session.line[0] == SEALED) fine = take_sealed(session.line, size);
  explicit_bzero(session.line, size < 256 ? size : 256); /* a seed stands in the first bytes of its frame */
  if (!fine) lose(UNREADABLE);
}

/* Take bytes of the port. What is cut off or too long is skipped to the next zero byte. */
static void receive(const uint8_t *bytes, size_t size) {
  while (size) {
    const uint8_t *zero = memchr(bytes, 0, size);
    size_t piece = zero ? (size_t)(zero - bytes) : size;
    if (piece > LINE_BYTES - session.line_size) session.skipping = true;
    if (!session.skipping) {
      memcpy(session.line + session.line_size, bytes, piece);
      session.line_size += piece;
    }
    if (!zero) return;
    if (!session.skipping) take_line();
    session.skipping = false;
    session.line_size = 0;
    bytes += piece + 1;
    size -= piece + 1;
  }
}

/* The kernel. */

/* Read where this boot's id stands. */
static bool read_boot(uint8_t boot[16]) {
  PATH(path, root, "/proc/sys/kernel/random/boot_id");
  char text[64];
  int digits = 0;
  if (read_file(path, text, sizeof text) < 0) return false;
  memset(boot, 0, 16);
  for (const char *at = text; *at && *at != '\n'; at++) {
    static const char hex[] = "0123456789abcdef";
    const char *digit = strchr(hex, *at);
    if (*at == '-') continue;
    if (!digit || digits == 32) return false;
    boot[digits / 2] = (uint8_t)(boot[digits / 2] << 4 | (digit - hex));
    digits++;
  }
  return digits == 32;
}

/* Find the port by its link, or by its name in sysfs. False while there is none. */
static bool find_port(char path[PATH_BYTES]) {
  struct folder ports;
  const char *port;
  char name[sizeof PORT_NAME + 1];
  if (join(path, PATH_BYTES, root, "/dev/virtio-ports/" PORT_NAME, NULL) && exists(path)) return true;
  PATH(folder, root, "/sys/class/virtio-ports");
  for (bool any = open_folder(&ports, folder); any && (port = next_name(&ports));) {
    PATH(file, folder, "/", port, "/name");
    if (read_file(file, name, sizeof name) < 0) continue;
    name[strcspn(name, "\n")] = 0;
    if (strcmp(name, PORT_NAME)) continue;
    join(path, PATH_BYTES, root, "/dev/", port, NULL);
    close(ports.file);
    return true;
  }
  return false;
}

/* Mix a seed in, credit it, and have a new key drawn from it; writing alone would not draw one. Whether the
 * kernel did both: RNDRESEEDCRNG is there from Linux 4.14 on, and an older one says that it knows no such
 * thing. */
static bool credit(const uint8_t seed[32]) {
  struct {
    int bits, size;
    uint8_t seed[32];
  } pool = {256, 32, {0}};
  PATH(path, root, "/dev/urandom");
  int device = open(path, O_WRONLY | O_CLOEXEC);
  if (device < 0) return false;
  memcpy(pool.seed, seed, 32);
  bool done = ioctl(device, _IOW('R', 3, int[2]), &pool) == 0 && ioctl(device, _IO('R', 7)) == 0;
  explicit_bzero(&pool, sizeof pool);
  close(device);
  return done;
}

static void interrupt(int number) { (void)number; }

/* What a snapshot may hold of the virtual generator: up to 63 bytes in /dev/hwrng, 64 in its driver. The
 * kernel fills its 64 from the driver's, so that stale ones came still after 64 bytes were read away. */
enum { STALE_BYTES = 128 };

/* Read stale bytes of the virtual generator away: it gives out what lay in the guest at the snapshot. Returns
 * how many. Where the host gives none, the kernel's own reader holds the device's lock and even a read that
 * should not wait does: a timer interrupts it. */
static unsigned drain(unsigned wanted, int most_ms) {
  PATH(path, root, "/dev/hwrng");
  int device = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (device < 0) return 0;
  struct sigaction action = {.sa_handler = interrupt}, was; /* no SA_RESTART */
  struct itimerval timer = {{0, 20000}, {most_ms / 1000, most_ms % 1000 * 1000}}, off = {{0, 0}, {0, 0}};
  uint8_t stale[64];
  unsigned count = 0;
  int64_t until = now_ms() + most_ms;
  sigaction(SIGALRM, &action, &was);
  setitimer(ITIMER_REAL, &timer, NULL);
  while (count < wanted && now_ms() < until) {
    size_t most = wanted - count < sizeof stale ? wanted - count : sizeof stale;
    ssize_t got = read(device, stale, most);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) break;
    if (got > 0) count += (unsigned)got;
    else if (errno == EAGAIN) wait_ms(1);
  }
  setitimer(ITIMER_REAL, &off, NULL);
  sigaction(SIGALRM, &was, NULL);
  close(device);
  return count;
}

/* The generation for applications: a text that is replaced as a whole, and a word that may be mapped. */

static struct {
  char path[PATH_BYTES];
  volatile uint64_t *word;
} published;

static bool open_generation(const char *folder) {
  if (published.word) return true;
  long page = sysconf(_SC_PAGESIZE);
  join(published.path, sizeof published.path, folder, "/generation", NULL);
  PATH(path, published.path, ".word");
  int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0) return false;
  void *map = MAP_FAILED;
  if (fchmod(file, 0644) == 0 && ftruncate(file, page) == 0)
    map = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (map == MAP_FAILED) return false;
  published.word = map;
  return true;
}

/* Let everybody know. The word first: who maps it asks most often. */
static void publish(uint64_t generation) {
  char number[NUMBER_BYTES], line[NUMBER_BYTES + 1];
  PATH(new, published.path, ".new");
  *published.word = generation;
  join(line, sizeof line, text_of(generation, number), "\n", NULL);
  if (!write_file(new, line, O_CREAT | O_TRUNC) || chmod(new, 0644) || rename(new, published.path))
    complain("the generation's file cannot be written; its word is");
}

/* Freezing all but the helper. With cgroup v2 (Linux 5.2): every group beside the path to the helper's own is
 * frozen, and process 1, which takes no signal, is moved into a frozen one if it sits in the root group. What
 * is left, also for want of room in here, gets SIGSTOP, in rounds. Each is written down before it is frozen,
 * so that a helper that starts anew can thaw it: the record is that of undercroft_guest.py. */

#define POOL "undercroft.frozen"
enum {
  MAX_PROCESSES = 8192,
  MAX_GROUPS = 256,
  GROUP_BYTES = 256,
  STAT_BYTES = 1024,
  FREEZE_MS = 2000,
  NAMED = 8
};
enum { KERNEL_THREAD = 0x00200000 };

struct stopped {
  int pid;
  char started[NUMBER_BYTES];
};

static struct {
  char record[PATH_BYTES];
  bool active;
  uint64_t number, count;
  int group_count, stopped_count;
  char first[GROUP_BYTES]; /* where process 1 was, if it was moved */
  char groups[MAX_GROUPS][GROUP_BYTES];
  struct stopped stopped[MAX_PROCESSES];
} freezer;

enum { FOUND, KERNEL, RUNNING };

struct listed {
  int pid, is;
};

/* A process's words after its name, which may hold brackets: the last one ends it. NULL: it is gone. */
static char *stat_words(const char *path, char held[STAT_BYTES]) {
  if (read_file(path, held, STAT_BYTES) < 0) return NULL;
  char *end = strrchr(held, ')');
  return end && end[1] == ' ' ? end + 2 : NULL;
}

/* Return one of the words, ended; NULL where there are fewer. */
static char *word_of(char *words, int place) {
  while (words && place--) {
    words = strchr(words, ' ');
    if (words) words++;
  }
  if (words) words[strcspn(words, " \n")] = 0;
  return words;
}

static void note(const char *what, const char *which, const char *more) {
  char line[GROUP_BYTES + 64];
  if (join(line, sizeof line, what, " ", which, more ? " " : "", more ? more : "", "\n", NULL))
    write_file(freezer.record, line, O_CREAT | O_APPEND);
}

static void note_number(const char *what, uint64_t number) {
  char held[NUMBER_BYTES];
  note(what, text_of(number, held), NULL);
}

static bool is_noted(const char *group) {
  for (int i = 0; i < freezer.group_count; i++)
    if (!strcmp(freezer.groups[i], group)) return true;
  return false;
}

static void keep_group(const char *group) {
  if (freezer.group_count < MAX_GROUPS && !is_noted(group))
    join(freezer.groups[freezer.group_count++], GROUP_BYTES, group, NULL);
}

static void keep_stopped(uint64_t pid, const char *started) {
  struct stopped *kept = &freezer.stopped[freezer.stopped_count];
  if (freezer.stopped_count == MAX_PROCESSES || !join(kept->started, NUMBER_BYTES, started, NULL)) return;
  kept->pid = (int)pid;
  freezer.stopped_count++;
}

/* Read what a helper before this one has frozen. */
static void open_freezer(const char *folder) {
  static struct lines lines;
  uint64_t number;
  memset(&freezer, 0, sizeof freezer);
  join(freezer.record, sizeof freezer.record, folder, "/frozen", NULL);
  for (char *line = open_lines(&lines, freezer.record) ? next_line(&lines) : NULL; line;
       line = next_line(&lines)) {
    char *rest = strchr(line, ' ');
    if (!rest) continue;
    *rest++ = 0;
    char *more = strchr(rest, ' ');
    if (more && !strcmp(line, "stop")) *more++ = 0;
    if (!strcmp(line, "group")) keep_group(rest);
    else if (!strcmp(line, "first")) join(freezer.first, GROUP_BYTES, rest, NULL);
    else if (!number_of(rest, &number)) continue;
    else if (!strcmp(line, "count")) freezer.count = number;
    else if (!strcmp(line, "stop") && more) keep_stopped(number, more);
    else if (!strcmp(line, "quiesce")) {
      freezer.number = number;
      freezer.active = true;
    }
  }
}

/* Find where cgroup v2 is mounted. False where it is not. */
static bool find_base(char base[GROUP_BYTES]) {
  static struct lines lines;
  PATH(path, root, "/proc/self/mountinfo");
  bool found = false;
  for (char *line = open_lines(&lines, path) ? next_line(&lines) : NULL; line; line = next_line(&lines)) {
    char *kind = strstr(line, " - ");
    if (found || !kind || strncmp(kind + 3, "cgroup2 ", 8)) continue;
    char *from = line, *point;
    for (int i = 0; i < 3 && from; i++) from = strchr(from, ' ') ? strchr(from, ' ') + 1 : NULL;
    if (!from || strncmp(from, "/ ", 2)) continue;
    point = from + 2;
    point[strcspn(point, " ")] = 0;
    PATH(inside, root, point, "/cgroup.procs");
    found = join(base, GROUP_BYTES, root, strcmp(point, "/") ? point : "", NULL) && exists(inside);
  }
  return found;
}

/* Read a process's group of cgroup v2, as the kernel names it; "" where it has none or is gone. */
static void group_of(const char *pid, char group[GROUP_BYTES]) {
  struct lines lines;
  PATH(path, root, "/proc/", pid, "/cgroup");
  group[0] = 0;
  for (char *line = open_lines(&lines, path) ? next_line(&lines) : NULL; line; line = next_line(&lines))
    if (!strncmp(line, "0::", 3)) join(group, GROUP_BYTES, line + 3, NULL);
}

static const char *own_pid(void) {
  static char held[NUMBER_BYTES];
  return text_of((uint64_t)getpid(), held);
}

static bool set_group(const char *group, const char *file, const char *text) {
  PATH(path, group, "/", file);
  return *path && write_file(path, text, 0);
}

/* Freeze one group; it is written down before. One that does not fit here is left to the signals. */
static void freeze_group(const char *group) {
  bool noted = is_noted(group);
  if (!noted && freezer.group_count == MAX_GROUPS) return;
  if (!noted) note("group", group, NULL);
  if (set_group(group, "cgroup.freeze", "1")) keep_group(group);
}

/* Freeze the groups in one, but for one name. */
static void freeze_inside(const char *at, const char *but) {
  static struct folder folder;
  const char *name;
  for (bool any = open_folder(&folder, at); any && (name = next_name(&folder));) {
    char group[GROUP_BYTES];
    if (strcmp(name, but) && join(group, sizeof group, at, "/", name, NULL)) {
      PATH(file, group, "/cgroup.freeze");
      if (exists(file)) freeze_group(group);
    }
  }
}

static void freeze_groups(const char *base) {
  char own[GROUP_BYTES], first[GROUP_BYTES], at[GROUP_BYTES], pool[GROUP_BYTES], name[GROUP_BYTES];
  group_of(own_pid(), own);
  join(at, sizeof at, base, NULL);
  for (const char *rest = own; *(rest += strspn(rest, "/"));) {
    size_t size = strcspn(rest, "/");
    memcpy(name, rest, size);
    name[size] = 0;
    freeze_inside(at, name);
    size_t whole = strlen(at);
    if (!join(at + whole, sizeof at - whole, "/", name, NULL)) return;
    rest += size;
  }
  freeze_inside(at, "");
  group_of("1", first);
  if (strcmp(first, "/") || !join(pool, sizeof pool, base, "/" POOL, NULL)) return;
  if (mkdir(pool, 0755) == 0 || errno == EEXIST) freeze_group(pool);
  if (!is_noted(pool)) return;
  note("first", base, NULL);
  join(freezer.first, sizeof freezer.first, base, NULL);
  set_group(pool, "cgroup.procs", "1");
}

/* Whether a process is in a frozen group. */
static bool is_inside(const char *base, const char *pid) {
  char group[GROUP_BYTES], whole[GROUP_BYTES];
  if (!freezer.group_count) return false;
  group_of(pid, group);
  if (!join(whole, sizeof whole, base, group, NULL)) return false;
  for (int i = 0; i < freezer.group_count; i++) {
    size_t size = strlen(freezer.groups[i]);
    if (!strncmp(whole, freezer.groups[i], size) && (!whole[size] || whole[size] == '/')) return true;
  }
  return false;
}

/* Whether a process is in a frozen group, or every thread of it has stopped. */
static bool is_held(const char *base, int pid) {
  static struct folder threads;
  char number[NUMBER_BYTES], held[STAT_BYTES];
  const char *shown = text_of((uint64_t)pid, number), *thread;
  if (is_inside(base, shown)) return true;
  PATH(tasks, root, "/proc/", shown, "/task");
  if (!open_folder(&threads, tasks)) return false; /* gone, and perhaps not without a child */
  bool all = true;
  while ((thread = next_name(&threads))) {
    PATH(path, tasks, "/", thread, "/stat");
    char *words = stat_words(path, held);
    if (words && !strchr("TtZX", *words)) all = false;
  }
  return all;
}

/* List the numbers of all processes but this one, in their order. Returns how many, -1 for more than there is
 * room for. */
static int list_processes(struct listed *list) {
  static struct folder folder;
  const char *name;
  uint64_t number;
  int count = 0, own = getpid();
  PATH(path, root, "/proc");
  for (bool any = open_folder(&folder, path); any && (name = next_name(&folder));) {
    if (!number_of(name, &number) || (int)number == own) continue;
    if (count == MAX_PROCESSES) {
      close(folder.file);
      return -1;
    }
    int at = count++;
    for (; at && list[at - 1].pid > (int)number; at--) list[at] = list[at - 1];
    list[at] = (struct listed){(int)number, FOUND};
  }
  return count;
}

static struct listed *find(struct listed *list, int count, int pid) {
  int low = 0;
  while (low < count) {
    int middle = low + (count - low) / 2;
    if (list[middle].pid == pid) return &list[middle];
    if (list[middle].pid < pid) low = middle + 1;
    else count = middle;
  }
  return NULL;
}

/* Stop a process, once written down, unless it is the kernel's or held already. Says whether it is the
 * kernel's. */
static int stop(const char *base, int pid) {
  char number[NUMBER_BYTES], held[STAT_BYTES];
  PATH(path, root, "/proc/", text_of((uint64_t)pid, number), "/stat");
  char *words = stat_words(path, held), *started = word_of(words, 19), *flags = word_of(words, 6);
  uint64_t bits;
  if (flags && number_of(flags, &bits) && bits & KERNEL_THREAD) return KERNEL;
  if (pid == 1 || !started || freezer.stopped_count == MAX_PROCESSES || is_held(base, pid)) return FOUND;
  bool known = false;
  for (int i = 0; i < freezer.stopped_count && !known; i++)
    known = freezer.stopped[i].pid == pid && !strcmp(freezer.stopped[i].started, started);
  if (!known) {
    note("stop", text_of((uint64_t)pid, number), started);
    keep_stopped((uint64_t)pid, started);
  }
  kill(pid, SIGSTOP);
  return FOUND;
}

/* Whether a new list has the same processes as the one before, but for the kernel's. */
static bool is_same(struct listed *list, int count) {
  static struct listed newer[MAX_PROCESSES];
  int found = list_processes(newer);
  if (found < 0) return false;
  for (int i = 0; i < found; i++)
    if (!find(list, count, newer[i].pid)) return false;
  for (int i = 0; i < count; i++)
    if (list[i].is != KERNEL && !find(newer, found, list[i].pid)) return false;
  return true;
}

static struct listed lists[2][MAX_PROCESSES];

/* Stop what no group holds. Returns the last list with those that still run in it, and its size; -1: too
 * many.
 *
 * Done is done when all that were listed have stopped, and a list that was made after that is the same: a
 * process that was told to stop, and had not yet, may have forked meanwhile. `settled` says whether it came
 * to that. */
static int stop_rest(const char *base, int64_t until, struct listed **last, bool *settled) {
  int before = 0;
  *settled = false;
  for (int turn = 0;; turn = !turn) {
    struct listed *list = *last = lists[turn];
    int count = list_processes(list), running = 0, only = 0;
    bool quiet = count >= 0;
    for (int i = 0; i < count; i++) {
      struct listed *was = find(lists[!turn], before, list[i].pid);
      if (!was) quiet = false;
      list[i].is = was && was->is != RUNNING ? was->is : stop(base, list[i].pid);
    }
    for (int i = 0; quiet && i < count; i++) {
      if (list[i].is == KERNEL || is_held(base, list[i].pid)) continue;
      list[i].is = RUNNING;
      only = list[i].pid;
      running++;
    }
    *settled = quiet && (running == 0 || (running == 1 && only == 1)) && is_same(list, count);
    if (*settled || count < 0 || now_ms() > until) return count; /* to wait for process 1 is of no use */
    before = count;
    if (running) wait_ms(1);
  }
}

/* Wait for the kernel to say that each group is frozen. Returns one of which it does not, or NULL. A group
 * that is gone holds nothing. */
static const char *unfrozen_group(int64_t until) {
  char events[256];
  for (int i = 0; i < freezer.group_count; i++) {
    PATH(path, freezer.groups[i], "/cgroup.events");
    while ((read_file(path, events, sizeof events) < 0 || !strstr(events, "frozen 1")) &&
           exists(freezer.groups[i])) {
      if (now_ms() > until) return freezer.groups[i];
      wait_ms(2);
    }
  }
  return NULL;
}

/* Freeze all. Says whether all are, and in `text` how or why not; `freezer.count` is how many were. */
static bool freeze(uint64_t number, char text[TEXT_BYTES]) {
  int64_t until = now_ms() + FREEZE_MS;
  char base[GROUP_BYTES] = "", held[NUMBER_BYTES];
  struct listed *list;
  bool settled;
  if (!freezer.active) note_number("quiesce", number);
  freezer.active = true;
  freezer.number = number;
  bool groups = find_base(base);
  if (groups) freeze_groups(base);
  int count = stop_rest(base, until, &list, &settled), named = 0;
  size_t at = 0;
  join(text, TEXT_BYTES, groups ? "groups and signals" : "signals", NULL);
  freezer.count = (uint64_t)freezer.stopped_count;
  for (int i = 0; i < count; i++) {
    const char *pid = text_of((uint64_t)list[i].pid, held);
    if (list[i].is != KERNEL && is_inside(base, pid)) freezer.count++;
    if (list[i].is != RUNNING || named == NAMED) continue;
    join(text + at, TEXT_BYTES - at, named++ ? ", " : "still run: ", pid, NULL);
    at += strlen(text + at);
  }
  const char *group = unfrozen_group(until);
  if (count < 0) join(text, TEXT_BYTES, "more processes than the small helper has room for", NULL);
  else if (!settled && !named++) join(text, TEXT_BYTES, "still run: what forks", NULL);
  else if (group && !named++ && !join(text, TEXT_BYTES, "still run: ", group, NULL))
    join(text, TEXT_BYTES, "still run: a group", NULL);
  note_number("count", freezer.count);
  return count >= 0 && !named && !group;
}

/* Let all run again that were frozen. Returns how many. It looks for nothing: it has to be quick. */
static uint64_t thaw(void) {
  uint64_t count = freezer.count;
  char number[NUMBER_BYTES], held[STAT_BYTES];
  for (int i = 0; i < freezer.stopped_count; i++) {
    struct stopped *each = &freezer.stopped[i];
    PATH(path, root, "/proc/", text_of((uint64_t)each->pid, number), "/stat");
    char *started = word_of(stat_words(path, held), 19);
    if (started && !strcmp(started, each->started))
      kill(each->pid, SIGCONT); /* else its number is another's now */
  }
  if (freezer.first[0]) set_group(freezer.first, "cgroup.procs", "1");
  for (int i = 0; i < freezer.group_count; i++) set_group(freezer.groups[i], "cgroup.freeze", "0");
  if (freezer.first[0]) {
    PATH(pool, freezer.first, "/" POOL);
    rmdir(pool);
  }
  unlink(freezer.record);
  freezer.active = false;
  freezer.number = freezer.count = 0;
  freezer.group_count = freezer.stopped_count = 0;
  freezer.first[0] = 0;
  return count;
}

/* Hooks: programs of the administrator's, after each seed, one after another and without waiting for any. */

enum {
  MAX_HOOKS = 64,
  NAME_BYTES = 256,
  HOOK_MS = 10000,
  HOOKS_MS = 30000,
  HOOK_STEP_MS = 20,
  KILL_MS = 1000
};

static struct {
  const char *folder;
  bool active;
  int pid, count, at, ran, failed;
  int64_t until, end;
  char names[MAX_HOOKS][NAME_BYTES];
  uint64_t generation;
} hooks;

/* Whether a file can run and only root can write it. */
static bool is_hook(const char *name) {
  struct stat about;
  PATH(path, hooks.folder, "/", name);
  if (strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") != strlen(name))
    return false;
  if (!*path || strlen(name) >= NAME_BYTES || stat(path, &about) || !S_ISREG(about.st_mode)) return false;
  return about.st_uid == 0 && (about.st_mode & 022) == 0 && about.st_mode & 0100;
}

/* List the first programs in the order of their names, and begin. */
static void begin_hooks(uint64_t generation) {
  static struct folder folder;
  const char *name;
  hooks.active = true;
  hooks.pid = hooks.count = hooks.at = hooks.ran = hooks.failed = 0;
  hooks.generation = generation;
  hooks.end = now_ms() + HOOKS_MS;
  while (waitpid(-1, NULL, WNOHANG) > 0) continue; /* what was left behind */
  for (bool any = open_folder(&folder, hooks.folder); any && (name = next_name(&folder));) {
    if (!is_hook(name) || (hooks.count == MAX_HOOKS && strcmp(name, hooks.names[MAX_HOOKS - 1]) > 0))
      continue;
    int at = hooks.count < MAX_HOOKS ? hooks.count++ : MAX_HOOKS - 1;
    for (; at && strcmp(hooks.names[at - 1], name) > 0; at--)
      memcpy(hooks.names[at], hooks.names[at - 1], NAME_BYTES);
    join(hooks.names[at], NAME_BYTES, name, NULL);
  }
}

/* In the child: become the program. All descriptors of the helper's close with that. */
static void become_hook(const char *name) {
  char number[NUMBER_BYTES], generation[64];
  sigset_t none;
  PATH(path, hooks.folder, "/", name);
  join(generation, sizeof generation, "UNDERCROFT_GENERATION=", text_of(hooks.generation, number), NULL);
  char search[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  char *words[] = {path, NULL}, *environment[] = {search, generation, NULL};
  setsid();
  signal(SIGPIPE, SIG_DFL);
  signal(SIGCHLD, SIG_DFL);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  int nothing = open("/dev/null", O_RDWR);
  if (nothing >= 0 && dup2(nothing, 0) == 0 && dup2(nothing, 1) == 1 && dup2(nothing, 2) == 2 &&
      chdir("/") == 0) {
    if (nothing > 2) close(nothing);
    write_file("/proc/self/oom_score_adj", "0", 0);
    execve(path, words, environment);
  }
  _exit(127);
}

/* End the one that runs, with all that it has started in its group. One that the kernel holds is left behind:
 * all else would wait for it. */
static void stop_hooks(void) {
  if (hooks.active && hooks.pid > 0) {
    kill(-hooks.pid, SIGKILL);
    kill(hooks.pid, SIGKILL);
    for (int waited = 0; waited < KILL_MS && waitpid(hooks.pid, NULL, WNOHANG) == 0; waited++) wait_ms(1);
  }
  hooks.active = false;
  hooks.pid = 0;
}

/* Go on as far as it goes without waiting. Returns whether all is done. */
static bool step_hooks(void) {
  int64_t now = now_ms();
  if (hooks.pid > 0) {
    int status = -1, done = waitpid(hooks.pid, &status, WNOHANG);
    if (done == 0 && now < hooks.until) return false;
    if (done == 0) {
      stop_hooks();
      hooks.active = true;
    }
    hooks.failed += done != hooks.pid || status != 0;
    hooks.pid = 0;
  }
  int waiting = hooks.count - hooks.at;
  if (!waiting || now > hooks.end) {
    hooks.failed += waiting;
    hooks.ran += waiting;
    hooks.at = hooks.count;
    return true;
  }
  hooks.ran++;
  hooks.until = now + HOOK_MS < hooks.end ? now + HOOK_MS : hooks.end;
  hooks.pid = fork();
  if (hooks.pid == 0) become_hook(hooks.names[hooks.at]);
  hooks.at++;
  hooks.failed += hooks.pid < 0;
  return false;
}

/* Come before all other programs, or no more, where the kernel lets this one. Hooks do not inherit it. From a
 * quiesce until the seed is confirmed the guest waits for nobody else, and what was thawed would take the
 * processor first. musl's own function only says that it does not exist. */
static void hurry(bool yes) {
  if (root[0]) return; /* a test, which plays the kernel */
  struct sched_param rank = {.sched_priority = yes ? 1 : 0};
  (void)syscall(SYS_sched_setscheduler, 0, (yes ? SCHED_FIFO : SCHED_OTHER) | SCHED_RESET_ON_FORK, &rank);
}

/* The daemon. */

static struct {
  uint64_t generation;
  uint8_t tag[32];
  bool credited;
  unsigned drained;
} seed_done;

static void quiesce(uint64_t number) {
  struct message said = {0};
  char text[TEXT_BYTES];
  hurry(true);
  bool all = freeze(number, text);
  session.frozen = true;
  put_array(&said, 5);
  put_number(&said, QUIESCED);
  put_number(&said, number);
  put_bool(&said, all);
  put_number(&said, freezer.count);
  put_text(&said, text);
  say(&said);
}

static void say_about(void) {
  static const char *const able[] = {"credit", "hwrng", "hooks", "stop"};
  struct message about = {0};
  struct utsname kernel;
  put_array(&about, 4);
  put_number(&about, ABOUT);
  put_text(&about, HELPER);
  put_text(&about, uname(&kernel) ? "" : kernel.release);
  put_array(&about, sizeof able / sizeof *able);
  for (size_t i = 0; i < sizeof able / sizeof *able; i++) put_text(&about, able[i]);
  say(&about);
}

static void thaw_and_say(void) {
  struct message thawed = {0};
  if (!freezer.active) return;
  put_array(&thawed, 3);
  put_number(&thawed, THAWED);
  put_number(&thawed, freezer.number);
  put_number(&thawed, thaw());
  session.frozen = false;
  say(&thawed);
}

/* Steps 1 to 6 of docs/CHANNEL.md, "The seed": the order is what the guarantees hang on. */
static void welcomed(uint64_t generation, const uint8_t *seed) {
  stop_hooks();
  say_about();
  if (!seed) return;
  seed_done.credited = credit(seed);           /* 1 */
  seed_done.drained = drain(STALE_BYTES, 300); /* 2 */
  publish(generation);                         /* 3 */
  thaw_and_say();                              /* 4 */
  seed_done.generation = generation;
  confirmation(seed, session.machine, standing.eid, generation, seed_done.tag);
  begin_hooks(generation); /* 5 */
}

/* Step 6; where the session was lost meanwhile, a later one brings another seed. */
static void confirm(void) {
  struct message said = {0};
  put_array(&said, 7);
  put_number(&said, CONFIRMED);
  put_number(&said, seed_done.generation);
  put_bytes(&said, seed_done.tag, 32);
  put_bool(&said, seed_done.credited);
  put_number(&said, seed_done.drained);
  put_number(&said, (uint64_t)hooks.ran);
  put_number(&said, (uint64_t)hooks.failed);
  stop_hooks();
  if (session.open) say(&said);
  hurry(false);
}

/* Read the port once. False where it is gone; `away` where nobody is on its other side. */
static bool read_port(int port, bool *away) {
  static uint8_t bytes[65536];
  ssize_t got = read(port, bytes, sizeof bytes);
  if (got > 0) receive(bytes, (size_t)got);
  else if (got == 0 || errno == EIO || errno == EPIPE) *away = true;
  else return errno == EAGAIN || errno == EINTR;
  return true;
}

static bool write_port(int port) {
  while (session.out_size) {
    ssize_t put = write(port, session.out, session.out_size);
    if (put <= 0) return put == 0 || errno == EAGAIN || errno == EINTR || errno == EPIPE || errno == EIO;
    session.out_size -= (size_t)put;
    memmove(session.out, session.out + put, session.out_size);
  }
  return true;
}

static int64_t least(int64_t one, int64_t other) { return one < other ? one : other; }

/* Serve an opened port until it is gone. A program that ends wakes it: SIGCHLD is let in only while it waits.
 */
static void serve(int port) {
  int64_t away_until = 0, start_at = now_ms() + START_MS;
  sigset_t none;
  sigemptyset(&none);
  for (;;) {
    int64_t now = now_ms(), most = hooks.active ? HOOK_STEP_MS : STEP_MS;
    bool is_away = now < away_until, away = false;
    if (start_at && now >= start_at && !is_away) {
      start_at = 0;
      if (!session.keyed) again(STARTED);
    }
    if (start_at) most = least(most, HOOK_STEP_MS);
    if (is_away) most = least(most, away_until - now);
    struct pollfd watched = {is_away ? -1 : port, (short)(POLLIN | (session.out_size ? POLLOUT : 0)), 0};
    struct timespec time = {most / 1000, most % 1000 * 1000000};
    int ready = ppoll(&watched, 1, &time, &none);
    if (ready > 0 && watched.revents & ~POLLOUT && !read_port(port, &away)) return;
    if (away) away_until = now_ms() + AWAY_MS;
    if (hooks.active && !session.frozen && step_hooks()) confirm(); /* a hook would draw as well */
    if (!write_port(port)) return;
    if (session.open && !hooks.active) prepare();
  }
}

/* Begin anew with what is written down; the port stays as it is. */
static bool begin(const char *folder) {
  forget();
  session.line_size = 0;
  session.skipping = true; /* the beginning may be the end of something */
  session.asked = 0;
  if (!read_boot(session.boot) || !open_standing(folder, session.boot) || !open_generation(folder))
    return false;
  open_freezer(folder);
  session.frozen = freezer.active;
  return true;
}

static bool make_folders(const char *folder) {
  char path[PATH_BYTES];
  if (!join(path, sizeof path, folder, NULL)) return false;
  for (char *at = path + 1; (at = strchr(at, '/')); *at++ = '/') {
    *at = 0;
    mkdir(path, 0755);
  }
  return mkdir(path, 0755) == 0 || errno == EEXIST;
}

/* Take what only one helper in a guest may have, until the process ends. */
static bool take_lock(const char *folder) {
  PATH(path, folder, "/lock");
  int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  return lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0;
}

/* What a helper needs that others may have to do without: its memory, and that it is the last to be killed.
 */
static void settle(void) {
  struct sigaction action = {.sa_handler = interrupt};
  sigset_t child;
  sigaction(SIGCHLD, &action, NULL);
  signal(SIGPIPE, SIG_IGN);
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, NULL);
  mlockall(MCL_CURRENT | MCL_FUTURE);
  write_file("/proc/self/oom_score_adj", "-900", 0);
}

int main(int count, char **words) {
  const char *folder = "/run/undercroft", *given = NULL;
  hooks.folder = "/etc/undercroft/hooks.d";
  for (int i = 1; i < count; i += 2) {
    const char **option = !strcmp(words[i], "--state")   ? &folder
                          : !strcmp(words[i], "--port")  ? &given
                          : !strcmp(words[i], "--hooks") ? &hooks.folder
                                                         : NULL;
    if (!option || i + 1 == count) {
      complain("usage: undercroft-reseed [--state FOLDER] [--port PATH] [--hooks FOLDER]");
      return 2;
    }
    *option = words[i + 1];
  }
  if (strlen(folder) > PATH_BYTES / 2 || !make_folders(folder) || !take_lock(folder)) {
    complain("another one runs already, or the folder of its state cannot be written");
    return 1;
  }
  settle();
  for (;;) {
    char path[PATH_BYTES] = "";
    if (given) join(path, sizeof path, given, NULL);
    else
      while (!find_port(path)) wait_ms(NO_PORT_MS);
    int port = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (port < 0 || !begin(folder))
      complain("the port, or a file of its state, cannot be opened: it tries again");
    else serve(port);
    stop_hooks();
    if (port >= 0) close(port);
    wait_ms(REOPEN_MS);
  }
}
