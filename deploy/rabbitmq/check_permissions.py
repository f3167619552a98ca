"""Checks on a running broker that each role may do what it needs and nothing else.

Usage: check_permissions.py PORT TLS_PORT CA_FILE    (users and passwords as in `test`, next to this file)

The operations are those of src/link/: the same declarations, bindings, reads and writes, done with another client.
"""

import ssl
import sys

import pika
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker, ProbableAuthenticationError

FLEET = VHOST = "mobu"
PORT, TLS_PORT, CA_FILE = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
BROADCAST = f"{FLEET}.broadcast"
REPLIES = f"{FLEET}.replies"
REQUESTS = f"{FLEET}.requests"
STATE = f"{FLEET}.state"
EXCHANGES = {"broadcast": "fanout", "reports": "fanout", "replies": "direct", "requests": "direct", "dead": "fanout", "events": "topic"}
QUORUM = {"x-queue-type": "quorum", "x-dead-letter-exchange": f"{FLEET}.dead", "x-overflow": "reject-publish"}
QUEUES = {
    "state": {"x-queue-type": "stream", "x-max-length-bytes": 67108864, "x-stream-max-segment-size-bytes": 8388608},
    "requests": QUORUM | {"x-delivery-limit": 20, "x-max-length": 10000},
    "run": QUORUM | {"x-delivery-limit": 3, "x-max-length": 1000},
    "dead": {"x-queue-type": "quorum", "x-max-length": 1000, "x-message-ttl": 1209600000},
}
failures = []
checks = 0


def say(is_right, claim):
    global checks
    checks += 1
    if not is_right:
        failures.append(claim)
        print(f"WRONG: {claim}")


class User:
    """A connection; each operation has a channel of its own, because a refusal closes it."""

    def __init__(self, role, password=None, tls=False):
        self.role = role
        password = password or f"{role}-password"
        options = None
        if tls:
            options = pika.SSLOptions(ssl.create_default_context(cafile=CA_FILE), "localhost")
        self.connection = pika.BlockingConnection(
            pika.ConnectionParameters(
                "127.0.0.1",
                TLS_PORT if tls else PORT,
                VHOST,
                pika.PlainCredentials(f"{FLEET}-{role}", password),
                ssl_options=options,
                blocked_connection_timeout=20,
            )
        )

    def attempt(self, operation):
        """Returns None if the broker did it, otherwise its reply code."""
        channel = self.connection.channel()
        try:
            operation(channel)
        except ChannelClosedByBroker as error:
            return error.reply_code
        if not getattr(operation, "keeps_channel", False):
            channel.close()
        return None

    def may(self, what, operation):
        code = self.attempt(operation)
        say(code is None, f"{self.role} may {what} (the broker says {code})")

    def may_not(self, what, operation):
        code = self.attempt(operation)
        say(code == 403, f"{self.role} may not {what} (the broker says {code or 'yes'})")


def publish(exchange, key=""):
    def operation(channel):
        channel.confirm_delivery()
        channel.basic_publish(exchange, key, b"{}")

    return operation


def declare(name, arguments=None, **options):
    return lambda channel: channel.queue_declare(name, arguments=arguments, **options)


def bind(queue, exchange, key=""):
    return lambda channel: channel.queue_bind(queue, exchange, key)


def read(queue, arguments=None):
    def operation(channel):
        channel.basic_qos(prefetch_count=10)
        channel.basic_consume(queue, lambda *_: None, arguments=arguments)

    # Not cancelled: pika would reject what came meanwhile, and a stream takes no rejections.
    operation.keeps_channel = True
    return operation


def own_inbox(user, name, exchange, key=""):
    user.may(f"declare its {name}", declare(name, exclusive=True))
    user.may(f"bind {name} to {exchange}", bind(name, exchange, key))
    user.may(f"read {name}", read(name))


def read_log(user):
    user.may("look at the log", declare(STATE, passive=True))
    user.may("read the log", read(STATE, {"x-stream-offset": "first"}))


def check_coordinator():
    user = User("coordinator")
    for name, kind in EXCHANGES.items():
        user.may(f"declare {name}", lambda channel: channel.exchange_declare(f"{FLEET}.{name}", kind, durable=True))
    for name, arguments in QUEUES.items():
        user.may(f"declare queue {name}", declare(f"{FLEET}.{name}", arguments, durable=True))
    user.may("bind requests", bind(REQUESTS, REQUESTS))
    user.may("bind dead", bind(f"{FLEET}.dead", f"{FLEET}.dead"))
    user.may("hold the lock", declare(f"{FLEET}.leader", exclusive=True, auto_delete=True))
    user.may("write the log", publish("", STATE))
    user.may("hand out runs", publish("", f"{FLEET}.run"))
    user.may("broadcast", publish(BROADCAST))
    user.may("answer", publish(REPLIES, f"{FLEET}.reply.x"))
    user.may("read requests", read(REQUESTS))
    read_log(user)
    own_inbox(user, f"{FLEET}.reports.c", f"{FLEET}.reports")
    own_inbox(user, f"{FLEET}.broadcast.c", BROADCAST)
    own_inbox(user, f"{FLEET}.reply.c", REPLIES, f"{FLEET}.reply.c")
    user.may_not("declare what is not the fleet's", declare("other.state", durable=True))
    user.may_not("declare queues of a fleet whose name begins alike", declare("mobu2.state", durable=True))
    return user


def check_worker():
    user = User("worker")
    read_log(user)
    own_inbox(user, f"{FLEET}.replica.0", BROADCAST)
    # Its spare, for while its own one is on a node that is down; who looks for it asks through the exchange of answers.
    own_inbox(user, f"{FLEET}.replica.0+1", REPLIES, f"{FLEET}.replica.0+1")
    user.may("ask at its spare", publish(REPLIES, f"{FLEET}.replica.0+1"))
    own_inbox(user, f"{FLEET}.reply.w", REPLIES, f"{FLEET}.reply.w")
    user.may("take runs", read(f"{FLEET}.run"))
    for exchange in ("reports", "replies", "events", "dead"):
        user.may(f"write {exchange}", publish(f"{FLEET}.{exchange}", "a.b.c"))
    user.may_not("write the log", publish("", STATE))
    user.may_not("write to any queue by its name", publish("", f"{FLEET}.reply.c"))
    user.may_not("broadcast", publish(BROADCAST))
    user.may_not("write requests", publish(REQUESTS))
    user.may_not("read requests", read(REQUESTS))
    user.may_not("listen to reports", declare(f"{FLEET}.reports.w", exclusive=True))
    user.may_not("take the lock", declare(f"{FLEET}.leader", exclusive=True, auto_delete=True))
    user.may_not("delete the log", lambda channel: channel.queue_delete(STATE))
    user.may_not("bind its inbox to requests", bind(f"{FLEET}.replica.0", REQUESTS))
    return user


def check_publisher():
    user = User("publisher")
    own_inbox(user, f"{FLEET}.reply.p", REPLIES, f"{FLEET}.reply.p")
    user.may("write requests", publish(REQUESTS))
    user.may("write requests by the queue's name", publish(REQUESTS, REQUESTS))
    for what, key in (("the log", STATE), ("requests past the exchange", REQUESTS)):
        user.may_not(f"write {what}", publish("", key))
    for exchange in ("broadcast", "reports", "replies", "events", "dead"):
        user.may_not(f"write {exchange}", publish(f"{FLEET}.{exchange}"))
    for queue in ("state", "requests", "run", "dead"):
        user.may_not(f"read {queue}", read(f"{FLEET}.{queue}", {"x-stream-offset": "first"} if queue == "state" else None))
    user.may_not("bind its queue to broadcast", bind(f"{FLEET}.reply.p", BROADCAST))
    return user


def check_auditor():
    user = User("auditor")
    read_log(user)
    user.may_not("write the log", publish("", STATE))
    user.may_not("write requests", publish(REQUESTS))
    user.may_not("declare a queue", declare(f"{FLEET}.reply.a", exclusive=True))
    user.may_not("delete the log", lambda channel: channel.queue_delete(STATE))
    user.may_not("read dead letters", read(f"{FLEET}.dead"))
    return user


def check_log_in():
    for role, password in (("coordinator", "wrong"), ("worker", "coordinator-password")):
        try:
            User(role, password)
            say(False, f"{role} cannot log in with another password")
        except ProbableAuthenticationError:
            say(True, "")
    try:
        pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", PORT, "/", pika.PlainCredentials("guest", "guest")))
        say(False, "there is no guest")
    except AMQPConnectionError:
        say(True, "")
    say(User("worker", tls=True).connection.is_open, "worker can log in over TLS")


def main():
    # Connections stay open, because the queues of one are part of what the next must not touch.
    connections = [check_coordinator(), check_worker(), check_publisher(), check_auditor()]
    check_log_in()
    for user in connections:
        say(user.connection.is_open, f"{user.role}'s connection is still open")
    print(f"permissions: {checks} checks, {len(failures)} wrong")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
