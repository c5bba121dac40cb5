// What a kernel with IPsec would answer to pluto, for one without: preloaded, it lets IKE come up where ESP cannot.
//
// pluto writes each request for XFRM to a netlink socket and reads the answer from the same; a request never reaches the
// kernel, and the answer to it is made here. The sockets themselves are real, for pluto binds and polls them.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/udp.h>
#include <linux/xfrm.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

// SPIs below are reserved (RFC 4303, section 2.1) or pluto's own for shunts.
#define FIRST_SPI 0x10000

// The answer to the request last written, until it is read. pluto has one at a time, in one thread.
static struct {
	struct nlmsghdr header;
	union {
		struct nlmsgerr error;
		struct xfrm_usersa_info sa;
	} body;
} answer;
static int answered;

static int is_xfrm(int fd)
{
	int domain, protocol;
	socklen_t length = sizeof(domain);
	int kept = errno;
	int is = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_NETLINK &&
		 getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 && protocol == NETLINK_XFRM;
	errno = kept;
	return is;
}

static void answer_to(const struct nlmsghdr *request)
{
	static uint32_t spi = FIRST_SPI;
	memset(&answer, 0, sizeof(answer));
	answer.header.nlmsg_seq = request->nlmsg_seq;
	if (request->nlmsg_type == XFRM_MSG_ALLOCSPI || request->nlmsg_type == XFRM_MSG_GETSA) {
		answer.header.nlmsg_type = XFRM_MSG_NEWSA;
		answer.header.nlmsg_len = NLMSG_LENGTH(sizeof(answer.body.sa));
		if (request->nlmsg_type == XFRM_MSG_ALLOCSPI)
			answer.body.sa.id.spi = htonl(spi++);
	} else {
		// Error 0: it is done.
		answer.header.nlmsg_type = NLMSG_ERROR;
		answer.header.nlmsg_len = NLMSG_LENGTH(sizeof(answer.body.error));
		answer.body.error.msg = *request;
	}
	answered = 1;
}

ssize_t write(int fd, const void *octets, size_t length)
{
	static ssize_t (*next)(int, const void *, size_t);
	if (!next)
		next = dlsym(RTLD_NEXT, "write");
	if (length < sizeof(struct nlmsghdr) || !is_xfrm(fd))
		return next(fd, octets, length);
	answer_to(octets);
	return length;
}

ssize_t recvfrom(int fd, void *octets, size_t length, int flags, struct sockaddr *from, socklen_t *from_length)
{
	static ssize_t (*next)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
	if (!next)
		next = dlsym(RTLD_NEXT, "recvfrom");
	if (!answered || !is_xfrm(fd))
		return next(fd, octets, length, flags, from, from_length);
	answered = 0;
	size_t whole = answer.header.nlmsg_len;
	if (length > whole)
		length = whole;
	memcpy(octets, &answer, length);
	if (from && from_length) {
		// From the kernel, which is port 0.
		memset(from, 0, *from_length);
		from->sa_family = AF_NETLINK;
	}
	return length;
}

// A socket of IKE is let past policies, and one takes ESP in UDP.
int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	static int (*next)(int, int, int, const void *, socklen_t);
	if (!next)
		next = dlsym(RTLD_NEXT, "setsockopt");
	int policy = (level == IPPROTO_IP && name == IP_XFRM_POLICY) || (level == IPPROTO_IPV6 && name == IPV6_XFRM_POLICY);
	int encapsulation = level == IPPROTO_UDP && name == UDP_ENCAP;
	if (policy || encapsulation)
		return 0;
	return next(fd, level, name, value, length);
}
