// The programs people write with amqplib: `node programs.js MODULE URL PART`; PART is `all`, or `before` and
// `after` a kill -9 of the broker.
'use strict';
const assert = require('assert');
const [module_, url, part] = process.argv.slice(2);
const amqp = require(module_);

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const within = (ms, promise, what) => Promise.race([
  promise,
  new Promise((_, fail) => setTimeout(() => fail(new Error(`${what}: not within ${ms} ms`)), ms).unref()),
]);

const programs = {
  async 'orders with prefetch, a dead-letter exchange and nack'(connection) {
    const channel = await connection.createChannel();
    await channel.prefetch(10);
    await channel.assertExchange('orders', 'topic', { durable: true });
    await channel.assertExchange('orders.dead', 'fanout', { durable: true });
    await channel.assertQueue('orders.failed', { durable: true });
    await channel.bindQueue('orders.failed', 'orders.dead', '');
    await channel.assertQueue('orders.new', { durable: true, deadLetterExchange: 'orders.dead' });
    await channel.bindQueue('orders.new', 'orders', 'order.#');
    const timestamp = Math.floor(Date.now() / 1000);
    for (const n of [1, 2, 3]) {
      channel.publish('orders', `order.created.${n}`, Buffer.from(JSON.stringify({ n })),
        { persistent: true, messageId: `m-${n}`, timestamp, contentType: 'application/json', headers: { tries: 0 } });
    }
    const seen = [];
    await within(5000, new Promise((done) => {
      channel.consume('orders.new', (message) => {
        const { n } = JSON.parse(message.content);
        assert.strictEqual(message.properties.messageId, `m-${n}`);
        assert.strictEqual(message.properties.timestamp, timestamp);
        seen.push(`${n}${message.fields.redelivered ? ' again' : ''}`);
        if (n === 2 && !message.fields.redelivered) return channel.nack(message, false, true);
        if (n === 3) { channel.nack(message, false, false); } else { channel.ack(message); }
        if (seen.length === 4) done();
      });
    }), 'orders');
    assert.deepStrictEqual(seen.sort(), ['1', '2', '2 again', '3']);
    await sleep(100);
    const dead = await channel.get('orders.failed', { noAck: true });
    assert.strictEqual(dead.properties.messageId, 'm-3');
    const [death] = dead.properties.headers['x-death'];
    assert.strictEqual(`${death.queue} ${death.reason} ${death.exchange} ${death['routing-keys']} ${death.count}`,
      'orders.new rejected orders order.created.3 1');
    assert.strictEqual(dead.properties.headers['x-first-death-queue'], 'orders.new');
    await channel.close();
  },

  async 'a delayed queue from expiration and a dead-letter exchange'(connection) {
    const channel = await connection.createChannel();
    await channel.assertQueue('due', { durable: true });
    await channel.assertQueue('waiting', { durable: true, deadLetterExchange: '', deadLetterRoutingKey: 'due' });
    const started = Date.now();
    channel.sendToQueue('waiting', Buffer.from('later'), { persistent: true, expiration: '300' });
    const message = await within(5000, new Promise((done) => {
      channel.consume('due', (message) => { channel.ack(message); done(message); });
    }), 'due');
    const took = Date.now() - started;
    assert(took >= 290 && took < 2000, `after ${took} ms`);
    assert.strictEqual(message.properties.headers['x-death'][0].reason, 'expired');
    assert.strictEqual(message.properties.headers['x-death'][0]['original-expiration'], '300');
    assert.strictEqual(message.properties.expiration, undefined);
    await channel.close();
  },

  async 'a message with x-delay'(connection) {
    const channel = await connection.createConfirmChannel();
    await channel.assertExchange('delayed', 'x-delayed-message', { durable: true, arguments: { 'x-delayed-type': 'direct' } });
    const { queue } = await channel.assertQueue('', { exclusive: true });
    await channel.bindQueue(queue, 'delayed', 'k');
    channel.publish('delayed', 'k', Buffer.from('later'), { headers: { 'x-delay': 300 } });
    channel.publish('delayed', 'k', Buffer.from('now'));
    await channel.waitForConfirms();
    const got = [];
    const started = Date.now();
    await within(5000, new Promise((done) => {
      channel.consume(queue, (message) => { got.push(String(message.content)); if (got.length === 2) done(); }, { noAck: true });
    }), 'delayed');
    assert.deepStrictEqual(got, ['now', 'later']);
    assert(Date.now() - started >= 250);
    await channel.close();
  },

  async 'mistakes close the channel and leave the connection'(connection) {
    for (const [code, mistake] of [
      [404, (channel) => channel.checkQueue('no such queue')],
      [406, async (channel) => { await channel.assertQueue('mismatch', { durable: true }); await channel.assertQueue('mismatch', { durable: false }); }],
      [403, (channel) => channel.assertExchange('amq.mine', 'direct')],
    ]) {
      const channel = await connection.createChannel();
      channel.on('error', () => {});
      await assert.rejects(async () => mistake(channel), (error) => error.code === code);
    }
    await (await connection.createChannel()).close();
  },

  async 'a mandatory message comes back'(connection) {
    const channel = await connection.createConfirmChannel();
    const back = new Promise((done) => channel.on('return', done));
    channel.publish('', 'nobody', Buffer.from('x'), { mandatory: true, headers: { a: { b: [1, 'two'] } } });
    const message = await within(5000, back, 'return');
    assert.strictEqual(message.fields.replyCode, 312);
    assert.deepStrictEqual(message.properties.headers, { a: { b: [1, 'two'] } });
    await channel.close();
  },

  async 'a consumer learns that its queue was deleted'(connection) {
    const channel = await connection.createChannel();
    await channel.assertQueue('doomed');
    const cancelled = new Promise((done) => channel.consume('doomed', (message) => { if (message === null) done(); }));
    await sleep(50);
    await (await connection.createChannel()).deleteQueue('doomed');
    await within(5000, cancelled, 'cancel');
    await channel.close();
  },
};

const COUNT = 2000;
const kept = {
  async before(connection) {
    const channel = await connection.createConfirmChannel();
    await channel.assertQueue('kept', { durable: true });
    for (let n = 0; n < COUNT; n += 1) channel.sendToQueue('kept', Buffer.from(String(n)), { persistent: true });
    await channel.waitForConfirms();
    // The broker is killed now; the connection just breaks.
    process.exit(0);
  },

  async after(connection) {
    const channel = await connection.createChannel();
    const { messageCount } = await channel.checkQueue('kept');
    assert.strictEqual(messageCount, COUNT);
    let next = 0;
    await within(20000, new Promise((done, fail) => {
      channel.consume('kept', (message) => {
        try { assert.strictEqual(String(message.content), String(next)); } catch (error) { return fail(error); }
        channel.ack(message);
        next += 1;
        if (next === COUNT) done();
      });
    }), 'kept');
    await channel.deleteQueue('kept');
  },
};

(async () => {
  const connection = await amqp.connect(url);
  connection.on('error', () => {});
  for (const [name, run] of Object.entries(part === 'all' ? programs : { [part]: kept[part] })) {
    await run(connection);
    console.log(`ok: ${module_}: ${name}`);
  }
  await connection.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
