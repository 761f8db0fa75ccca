#!/usr/bin/env python3
"""The seven tutorials of RabbitMQ, and more, with pika: `tutorials.py PORT`."""

import sys, time
import pika

port = int(sys.argv[1])


def connect():
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, heartbeat=30))


def take(channel, queue, count, auto_ack=False):
    got = []
    for method, properties, body in channel.consume(queue, auto_ack=auto_ack, inactivity_timeout=10):
        assert method is not None, f"{queue}: {len(got)} of {count} messages"
        if not auto_ack:
            channel.basic_ack(method.delivery_tag)
        got.append((method, properties, body.decode()))
        if len(got) == count:
            break
    channel.cancel()
    return got


def hello_world(channel):
    channel.queue_declare(queue="hello")
    channel.basic_publish(exchange="", routing_key="hello", body="Hello World!")
    got = []

    def callback(channel, method, properties, body):
        got.append(body)
        channel.stop_consuming()

    channel.basic_consume(queue="hello", on_message_callback=callback, auto_ack=True)
    channel.start_consuming()
    assert got == [b"Hello World!"], got


def work_queues(channel):
    channel.queue_declare(queue="task_queue_py", durable=True)
    for n in range(20):
        channel.basic_publish("", "task_queue_py", f"task {n}", pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent))
    channel.basic_qos(prefetch_count=1)
    assert [body for _, _, body in take(channel, "task_queue_py", 20)] == [f"task {n}" for n in range(20)]


def publish_subscribe(channel):
    channel.exchange_declare(exchange="logs_py", exchange_type="fanout")
    queues = [channel.queue_declare(queue="", exclusive=True).method.queue for _ in range(3)]
    for queue in queues:
        channel.queue_bind(exchange="logs_py", queue=queue)
    channel.basic_publish(exchange="logs_py", routing_key="", body="info")
    for queue in queues:
        assert take(channel, queue, 1, auto_ack=True)[0][2] == "info"


def routing(channel):
    channel.exchange_declare(exchange="direct_py", exchange_type="direct")
    queue = channel.queue_declare(queue="", exclusive=True).method.queue
    for severity in ("warning", "error"):
        channel.queue_bind(exchange="direct_py", queue=queue, routing_key=severity)
    for severity in ("info", "warning", "error"):
        channel.basic_publish(exchange="direct_py", routing_key=severity, body=severity)
    assert [method.routing_key for method, _, _ in take(channel, queue, 2)] == ["warning", "error"]


def topics(channel):
    channel.exchange_declare(exchange="topic_py", exchange_type="topic")
    queue = channel.queue_declare(queue="", exclusive=True).method.queue
    for key in ("kern.*", "*.critical"):
        channel.queue_bind(exchange="topic_py", queue=queue, routing_key=key)
    for key in ("kern.critical", "cron.info", "cron.critical"):
        channel.basic_publish(exchange="topic_py", routing_key=key, body=key)
    assert [body for _, _, body in take(channel, queue, 2)] == ["kern.critical", "cron.critical"]


def rpc(channel):
    channel.queue_declare(queue="rpc_py")

    def serve(server, method, properties, body):
        answer = pika.BasicProperties(correlation_id=properties.correlation_id)
        server.basic_publish("", properties.reply_to, str(int(body) + 1), answer)
        server.basic_ack(method.delivery_tag)

    channel.basic_consume("rpc_py", serve)
    queue = channel.queue_declare(queue="", exclusive=True).method.queue
    got = []
    channel.basic_consume(queue, lambda c, m, p, body: got.append((p.correlation_id, body)), auto_ack=True)
    channel.basic_consume("amq.rabbitmq.reply-to", lambda c, m, p, body: got.append((p.correlation_id, body)), auto_ack=True)
    for n, reply_to in enumerate((queue, "amq.rabbitmq.reply-to")):
        channel.basic_publish("", "rpc_py", str(n), pika.BasicProperties(reply_to=reply_to, correlation_id=f"c{n}"))
    end = time.time() + 10
    while len(got) < 2 and time.time() < end:
        channel.connection.process_data_events(time_limit=0.1)
    assert sorted(got) == [("c0", b"1"), ("c1", b"2")], got


def publisher_confirms(channel):
    channel.queue_declare(queue="confirmed_py", durable=True)
    channel.confirm_delivery()
    for n in range(100):
        channel.basic_publish("", "confirmed_py", str(n), pika.BasicProperties(delivery_mode=2), mandatory=True)
    try:
        channel.basic_publish("", "nowhere", "x", mandatory=True)
        raise AssertionError("an unroutable message was not returned")
    except pika.exceptions.UnroutableError:
        pass
    assert channel.queue_declare(queue="confirmed_py", passive=True).method.message_count == 100
    assert channel.queue_delete(queue="confirmed_py").method.message_count == 100


def fetching(channel):
    channel.queue_declare(queue="fetched_py", durable=True)
    for n in range(3):
        channel.basic_publish("", "fetched_py", str(n), pika.BasicProperties(delivery_mode=2))
    method, _, body = channel.basic_get("fetched_py")
    assert (body, method.message_count) == (b"0", 2)
    channel.basic_nack(method.delivery_tag, requeue=True)
    method, _, body = channel.basic_get("fetched_py", auto_ack=True)
    assert (body, method.redelivered) == (b"0", True)
    channel.queue_purge("fetched_py")
    assert channel.basic_get("fetched_py") == (None, None, None)
    channel.queue_delete("fetched_py")


def transactions(channel):
    channel.queue_declare(queue="tx_py", durable=True)
    channel.tx_select()
    channel.basic_publish("", "tx_py", "undone")
    channel.tx_rollback()
    channel.basic_publish("", "tx_py", "done")
    assert channel.queue_declare(queue="tx_py", passive=True).method.message_count == 0
    channel.tx_commit()
    assert [body for _, _, body in take(channel, "tx_py", 1)] == ["done"]
    channel.tx_commit()
    assert channel.queue_delete(queue="tx_py").method.message_count == 0


def streams(channel):
    channel.queue_declare(queue="stream_py", durable=True, arguments={"x-queue-type": "stream"})
    channel.confirm_delivery()
    for n in range(5):
        channel.basic_publish("", "stream_py", str(n), pika.BasicProperties(delivery_mode=2))
    channel.basic_qos(prefetch_count=10)
    for offset, expected in (("first", "01234"), (3, "34"), ("last", "4")):
        got = []
        for method, properties, body in channel.consume("stream_py", arguments={"x-stream-offset": offset}, inactivity_timeout=5):
            assert method is not None, (offset, got)
            assert properties.headers["x-stream-offset"] == int(body)
            channel.basic_ack(method.delivery_tag)
            got.append(body.decode())
            if len(got) == len(expected):
                break
        channel.cancel()
        assert "".join(got) == expected, (offset, got)
    channel.queue_delete("stream_py")


def a_wrong_password(_):
    try:
        credentials = pika.PlainCredentials("guest", "wrong")
        pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, credentials=credentials))
        raise AssertionError("a wrong password was accepted")
    except pika.exceptions.ProbableAuthenticationError:
        pass


for run in (hello_world, work_queues, publish_subscribe, routing, topics, rpc, publisher_confirms, fetching, transactions, streams,
            a_wrong_password):
    connection = connect()
    run(connection.channel())
    connection.close()
    print(f"ok: pika: {run.__name__.replace('_', ' ')}")
