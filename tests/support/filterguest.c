/* In a test's guest: does for the host what only this kernel can, over a virtio serial port.
 *
 * A request is one letter, a length of 4 bytes (host order) and so many bytes; an answer is a number of
 * records, and each record with its length.
 *   N  netlink messages for nfnetlink; records: the datagrams that answer. One of "E" and 4 bytes: errno.
 *   X  a command for the shell; one record: what it wrote.
 *   T  the name of a tap to be opened; taps have numbers from 0.      H  listen at a bridge of that name.
 *   U  the name of a device with another end, called x- and so on, that is used like a tap.
 *   P  the number of a tap (255: send from the host), a mark of 4 bytes for that, and a frame; records: a
 *      tap's number (255: the host), and a frame that came out of it.   Z  close the taps.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST_BYTES (16 << 20)
#define DATAGRAM_BYTES (1 << 16)
#define HOST 255
#define MOST_TAPS 32

static int port, netlink = -1, host = -1, taps[MOST_TAPS], ears[MOST_TAPS], tap_count;
static char *answer;
static uint32_t answer_bytes, records;
static char part[DATAGRAM_BYTES];

static void receive(void *to, uint32_t length) {
  for (uint32_t done = 0; done < length;) {
    ssize_t got = read(port, (char *)to + done, length - done);
    if (got > 0) done += got;
    else usleep(10000); /* The host is not there yet. */
  }
}

static void sent(const void *from, uint32_t length) {
  for (uint32_t done = 0; done < length;) {
    ssize_t put = write(port, (const char *)from + done, length - done);
    if (put > 0) done += put;
  }
}

static void record(const char *head, uint32_t head_bytes, const void *data, uint32_t length) {
  uint32_t whole = head_bytes + length;
  if (answer_bytes + 4 + whole > MOST_BYTES) return;
  memcpy(answer + answer_bytes, &whole, 4);
  memcpy(answer + answer_bytes + 4, head, head_bytes);
  memcpy(answer + answer_bytes + 4 + head_bytes, data, length);
  answer_bytes += 4 + whole;
  records++;
}

static void failed(void) {
  int32_t number = errno;
  record("E", 1, &number, 4);
}

static void open_netlink(void) {
  int one = 1, size = 8 << 20;
  netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
  setsockopt(netlink, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
  setsockopt(netlink, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one);
  setsockopt(netlink, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  setsockopt(netlink, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
}

static void ask_netlink(const char *data, uint32_t length) {
  ssize_t got;
  if (netlink < 0) open_netlink();
  if (send(netlink, data, length, 0) < 0) {
    failed();
    return;
  }
  /* The kernel has answered by now; each datagram that is taken makes it go on with a dump. */
  while ((got = recv(netlink, part, sizeof part, MSG_DONTWAIT)) >= 0 || errno == ENOBUFS)
    if (got >= 0) record("D", 1, part, got);
}

static void run(const char *command) {
  FILE *output = popen(command, "r");
  size_t got = output ? fread(part, 1, sizeof part, output) : 0;
  if (output) pclose(output);
  record("", 0, part, got);
}

static int packet_socket(const char *device, int hears) {
  struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = hears ? htons(ETH_P_ALL) : 0};
  int one = 1, opened = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  at.sll_ifindex = if_nametoindex(device);
  setsockopt(opened, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one);
  if (bind(opened, (struct sockaddr *)&at, sizeof at) < 0) failed();
  return opened;
}

/* A port that is no tap: it is spoken to at its other end, and heard where it leaves. */
static void open_port(const char *name) {
  char end[IFNAMSIZ];
  snprintf(end, sizeof end, "x-%s", name);
  if (tap_count == MOST_TAPS) {
    failed();
    return;
  }
  ears[tap_count] = packet_socket(name, 1);
  taps[tap_count++] = packet_socket(end, 0);
}

static void open_tap(const char *name) {
  struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
  int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (tap < 0 || tap_count == MOST_TAPS || ioctl(tap, TUNSETIFF, &request) < 0) failed();
  else ears[tap_count] = -1, taps[tap_count++] = tap;
}

static void listen_at(const char *bridge) {
  int one = 1;
  host = packet_socket(bridge, 1);
  setsockopt(host, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
}

/* Take a frame, with the tag that the kernel has taken off put back. */
static ssize_t heard(int at, unsigned char *whose) {
  struct sockaddr_ll from = {0};
  char told[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
  struct iovec to = {part, sizeof part - 4};
  struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &to, .msg_iovlen = 1,
                           .msg_control = told, .msg_controllen = sizeof told};
  ssize_t got = recvmsg(at, &message, 0);
  struct cmsghdr *head = got >= 12 ? CMSG_FIRSTHDR(&message) : NULL;
  if (head && head->cmsg_type == PACKET_AUXDATA) {
    struct tpacket_auxdata *data = (struct tpacket_auxdata *)CMSG_DATA(head);
    if (data->tp_status & TP_STATUS_VLAN_VALID) {
      uint16_t tag[] = {htons(data->tp_vlan_tpid), htons(data->tp_vlan_tci)};
      memmove(part + 16, part + 12, got - 12);
      memcpy(part + 12, tag, 4);
      got += 4;
    }
  }
  *whose = from.sll_pkttype;
  return got;
}

static void put(const char *data, uint32_t length) {
  unsigned char out = data[0], whose;
  ssize_t got;
  if (out == HOST) setsockopt(host, SOL_SOCKET, SO_MARK, data + 1, 4);
  if (write(out == HOST ? host : taps[out], data + 5, length - 5) < 0) {
    failed();
    return;
  }
  for (int number = 0; number < tap_count; number++) {
    char head = number;
    if (ears[number] < 0)
      while ((got = read(taps[number], part, sizeof part)) > 0) record(&head, 1, part, got);
    else
      while ((got = heard(ears[number], &whose)) > 0)
        if (whose == PACKET_OUTGOING) record(&head, 1, part, got);
  }
  while (host >= 0 && (got = heard(host, &whose)) > 0) record("\xff", 1, part, got);
}

static void close_taps(void) {
  while (tap_count) {
    close(taps[--tap_count]);
    if (ears[tap_count] >= 0) close(ears[tap_count]);
  }
  if (host >= 0) close(host);
  host = -1;
}

int main(int count, char **arguments) {
  char *request = malloc(MOST_BYTES + 1);
  answer = malloc(MOST_BYTES);
  port = open(count > 1 ? arguments[1] : "/dev/vport0p1", O_RDWR | O_CLOEXEC);
  if (port < 0 || !request || !answer) return perror("filterguest"), 1;
  for (;;) {
    char kind;
    uint32_t length;
    receive(&kind, 1);
    receive(&length, 4);
    if (length > MOST_BYTES) return 1;
    receive(request, length);
    request[length] = 0;
    answer_bytes = records = 0;
    switch (kind) {
    case 'N': ask_netlink(request, length); break;
    case 'X': run(request); break;
    case 'T': open_tap(request); break;
    case 'U': open_port(request); break;
    case 'H': listen_at(request); break;
    case 'P': put(request, length); break;
    case 'Z': close_taps(); break;
    default: return 1;
    }
    sent(&records, 4);
    sent(answer, answer_bytes);
  }
}
