#!/usr/bin/env python3
"""Starts, refreshes or stops flocks of a mobu fleet by a message to its broker, and prints the answers.

Needs pika (`pip install pika`). Exit codes: 0 done, 1 the fleet refused the request or not every replica applied it,
2 wrong usage, 3 the broker refused or could not be reached, 4 no answer in time (the request is stored and may still be
carried out; sending it again with the same --message-id does no harm).

    publish.py start lambs.json --wait
    publish.py refresh lambs
    publish.py refresh --repo https://github.com/example/notebooks --ref main
    publish.py stop lambs --wait
    publish.py stop --all
"""

import argparse
import json
import os
import sys
import time
import uuid

import pika
from pika.exceptions import AMQPError, NackError, UnroutableError


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="See docs/messages.md for what the messages mean."
    )
    parser.add_argument(
        "--url", default=os.environ.get("MOBU_AMQP_URL", "amqp://localhost"), help="of the broker, or of several of one cluster with commas between; else MOBU_AMQP_URL"
    )
    parser.add_argument("--fleet", default=os.environ.get("MOBU_FLEET", "mobu"), help="else MOBU_FLEET, else mobu")
    parser.add_argument("--message-id", default=str(uuid.uuid4()), help="names the request over repetitions")
    parser.add_argument("--timeout", type=float, default=45, help="seconds to wait for an answer (default 45)")
    kinds = parser.add_subparsers(dest="kind", required=True)
    start = kinds.add_parser("start", help="start a flock, or restart it with this configuration")
    start.add_argument("file", type=argparse.FileType(), help="JSON of the flock, as in PUT /flocks; - for standard input")
    stop = kinds.add_parser("stop", help="stop a flock, or all")
    stop.add_argument("flock", nargs="?")
    stop.add_argument("--all", action="store_true")
    refresh = kinds.add_parser("refresh", help="refresh a flock, or all of a repository and branch")
    refresh.add_argument("flock", nargs="?")
    refresh.add_argument("--repo", metavar="URL")
    refresh.add_argument("--ref", metavar="BRANCH")
    for kind in (start, stop, refresh):
        kind.add_argument("--wait", action="store_true", help="wait until every replica has applied it, too")
    return parser.parse_args()


def request(args):
    """Returns the request; the fleet itself says what is wrong with it."""
    if args.kind == "start":
        return {"kind": "start", "flock": json.load(args.file), "wait": args.wait}
    if args.kind == "stop":
        return {"kind": "stop", "flock": args.flock, "all": args.all, "wait": args.wait}
    return {"kind": "refresh", "flock": args.flock, "repo_url": args.repo, "repo_ref": args.ref, "wait": args.wait}


def answers(channel, fleet, body, message_id, timeout):
    """Publishes a request and yields every answer to it; ends when none came for too long."""
    # The queue for the answers. Its name begins so that the least permissions suffice; the fleet answers through the
    # exchange `replies`, to which it is bound. It disappears with the connection.
    queue = f"{fleet}.reply.{uuid.uuid4().hex}"
    channel.queue_declare(queue, exclusive=True, auto_delete=True)
    channel.queue_bind(queue, f"{fleet}.replies", routing_key=queue)
    # With confirms, publishing fails unless the broker has stored the request.
    channel.confirm_delivery()
    channel.basic_publish(
        exchange=f"{fleet}.requests",
        routing_key="",
        body=json.dumps(body).encode(),
        mandatory=True,
        properties=pika.BasicProperties(
            type="fleet.request.v1",
            content_type="application/json",
            delivery_mode=2,
            message_id=message_id,
            correlation_id=message_id,
            reply_to=queue,
        ),
    )
    deadline = time.monotonic() + timeout
    for _, properties, payload in channel.consume(queue, auto_ack=True, inactivity_timeout=0.5):
        if properties is not None and properties.correlation_id == message_id:
            yield json.loads(payload)
        if time.monotonic() > deadline:
            return


def main():
    args = arguments()
    try:
        body = request(args)
    except json.JSONDecodeError as error:
        print(f"{args.file.name} is not JSON: {error}", file=sys.stderr)
        return 2
    try:
        connection = pika.BlockingConnection([pika.URLParameters(url.strip()) for url in args.url.split(",")])
        for answer in answers(connection.channel(), args.fleet, body, args.message_id, args.timeout):
            print(json.dumps(answer, indent=2), flush=True)
            if answer["status"] == "accepted" and args.wait:
                continue
            connection.close()
            failed = any(replica["outcome"] == "failed" for replica in answer.get("replicas", {}).values())
            return 0 if answer["status"] in ("accepted", "applied") and not failed else 1
    except (UnroutableError, NackError):
        print("the broker did not store the request: no fleet of this name, or its queue is full", file=sys.stderr)
        return 3
    except AMQPError as error:
        print(f"the broker: {error!r}", file=sys.stderr)
        return 3
    print(f"no answer within {args.timeout:g} s; the request is stored as {args.message_id}", file=sys.stderr)
    return 4


if __name__ == "__main__":
    sys.exit(main())
