// The seven tutorials of RabbitMQ with amqplib: `node tutorials.js MODULE URL`.
'use strict';
const assert = require('assert');
const [module_, url] = process.argv.slice(2);
const amqp = require(module_);

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// Resolves with the first `count` messages of a queue.
function take(channel, queue, count, options = {}, work = (message) => channel.ack(message)) {
  const got = [];
  return new Promise((done, fail) => {
    setTimeout(() => fail(new Error(`${queue}: ${got.length} of ${count} messages`)), 10000).unref();
    channel.consume(queue, (message) => {
      if (message === null) return fail(new Error(`${queue}: cancelled`));
      if (!options.noAck) work(message);
      got.push(message);
      if (got.length === count) done(got);
    }, options).catch(fail);
  });
}
const texts = (messages) => messages.map((message) => message.content.toString());

const tutorials = {
  async 'hello world'(connection) {
    const channel = await connection.createChannel();
    await channel.assertQueue('hello', { durable: false });
    channel.sendToQueue('hello', Buffer.from('Hello World!'));
    assert.deepStrictEqual(texts(await take(channel, 'hello', 1, { noAck: true })), ['Hello World!']);
  },

  async 'work queues'(connection) {
    const boss = await connection.createChannel();
    await boss.assertQueue('task_queue', { durable: true });
    const done = { one: 0, two: 0 };
    const all = new Promise((resolve, fail) => {
      setTimeout(() => fail(new Error('tasks are left')), 10000).unref();
      for (const name of Object.keys(done)) {
        (async () => {
          const worker = await connection.createChannel();
          await worker.prefetch(1);
          await worker.consume('task_queue', async (message) => {
            await sleep(message.content.toString().split('.').length * 5);
            done[name] += 1;
            worker.ack(message);
            if (done.one + done.two === 20) resolve();
          }, { noAck: false });
        })();
      }
    });
    for (let n = 0; n < 20; n += 1) boss.sendToQueue('task_queue', Buffer.from('work' + '.'.repeat(n % 3)), { persistent: true });
    await all;
    assert(done.one > 3 && done.two > 3, JSON.stringify(done));
  },

  async 'publish/subscribe'(connection) {
    const channel = await connection.createChannel();
    await channel.assertExchange('logs', 'fanout', { durable: false });
    const readers = [];
    for (let n = 0; n < 3; n += 1) {
      const q = await channel.assertQueue('', { exclusive: true });
      await channel.bindQueue(q.queue, 'logs', '');
      readers.push(take(channel, q.queue, 2, { noAck: true }));
    }
    channel.publish('logs', '', Buffer.from('info'));
    channel.publish('logs', '', Buffer.from('error'));
    for (const got of await Promise.all(readers)) assert.deepStrictEqual(texts(got), ['info', 'error']);
  },

  async routing(connection) {
    const channel = await connection.createChannel();
    await channel.assertExchange('direct_logs', 'direct', { durable: false });
    const q = await channel.assertQueue('', { exclusive: true });
    for (const severity of ['warning', 'error']) await channel.bindQueue(q.queue, 'direct_logs', severity);
    for (const severity of ['info', 'warning', 'debug', 'error']) channel.publish('direct_logs', severity, Buffer.from(severity));
    const got = await take(channel, q.queue, 2, { noAck: true });
    assert.deepStrictEqual(got.map((message) => message.fields.routingKey), ['warning', 'error']);
    assert.strictEqual(got[0].fields.exchange, 'direct_logs');
  },

  async topics(connection) {
    const channel = await connection.createChannel();
    await channel.assertExchange('topic_logs', 'topic', { durable: false });
    const listen = async (...keys) => {
      const q = await channel.assertQueue('', { exclusive: true });
      for (const key of keys) await channel.bindQueue(q.queue, 'topic_logs', key);
      return q.queue;
    };
    const [all, kern, critical] = [await listen('#'), await listen('kern.*'), await listen('*.critical', 'kern.#')];
    const sent = ['kern.critical', 'cron.info', 'kern.disk.full', 'cron.critical'];
    for (const key of sent) channel.publish('topic_logs', key, Buffer.from(key));
    assert.deepStrictEqual(texts(await take(channel, all, 4, { noAck: true })), sent);
    assert.deepStrictEqual(texts(await take(channel, kern, 1, { noAck: true })), ['kern.critical']);
    assert.deepStrictEqual(texts(await take(channel, critical, 3, { noAck: true })), ['kern.critical', 'kern.disk.full', 'cron.critical']);
  },

  async RPC(connection) {
    const server = await connection.createChannel();
    await server.assertQueue('rpc_queue', { durable: false });
    await server.prefetch(1);
    await server.consume('rpc_queue', (message) => {
      const answer = Buffer.from(String(Number(message.content) + 1));
      server.sendToQueue(message.properties.replyTo, answer, { correlationId: message.properties.correlationId });
      server.ack(message);
    });
    const client = await connection.createChannel();
    const own = (await client.assertQueue('', { exclusive: true })).queue;
    for (const queue of [own, 'amq.rabbitmq.reply-to']) {
      const answer = take(client, queue, 1, { noAck: true });
      await sleep(50);
      client.sendToQueue('rpc_queue', Buffer.from('41'), { correlationId: 'c1', replyTo: queue });
      const [message] = await answer;
      assert.strictEqual(message.content.toString(), '42');
      assert.strictEqual(message.properties.correlationId, 'c1');
    }
  },

  async 'publisher confirms'(connection) {
    const channel = await connection.createConfirmChannel();
    const { queue } = await channel.assertQueue('confirmed', { durable: true });
    let confirmed = 0;
    for (let n = 0; n < 500; n += 1) {
      channel.sendToQueue(queue, Buffer.from(String(n)), { persistent: true }, (error) => { if (error === null) confirmed += 1; });
    }
    await channel.waitForConfirms();
    assert.strictEqual(confirmed, 500);
    assert.strictEqual((await channel.checkQueue(queue)).messageCount, 500);
    assert.strictEqual((await channel.purgeQueue(queue)).messageCount, 500);
  },
};

(async () => {
  const connection = await amqp.connect(url);
  for (const [name, run] of Object.entries(tutorials)) {
    await run(connection);
    console.log(`ok: ${module_}: ${name}`);
  }
  await connection.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
