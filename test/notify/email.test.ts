import { SMTPServer, type SMTPServerOptions } from 'smtp-server';
import { afterEach, describe, expect, test } from 'vitest';
import { createEmail } from '../../src/notify/email.ts';
import { makeFailure, makeReport } from '../report/fixtures.ts';
import { runWords } from './notifier-of.ts';

const { signal } = new AbortController();
const message = runWords(makeReport({ status: 'failed', results: [makeFailure({ name: 'größe.postgres' })] }));

interface Mail {
  from: string;
  to: string[];
  secure: boolean;
  user: unknown;
  text: string;
}

let server: SMTPServer | undefined;
afterEach(() => new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve())));

/** Starts an SMTP server. Its certificate is the self-signed one of smtp-server. */
async function start(options: SMTPServerOptions = {}): Promise<{ port: number; mails: Mail[] }> {
  const mails: Mail[] = [];
  server = new SMTPServer({
    logger: false,
    authOptional: true,
    closeTimeout: 1,
    onAuth: ({ username, password }, _session, done) =>
      password === 'p@ss word' ? done(null, { user: username }) : done(new Error('wrong password')),
    onData(stream, session, done) {
      void stream.toArray().then((chunks: Buffer[]) => {
        const { mailFrom, rcptTo } = session.envelope;
        mails.push({
          from: mailFrom ? mailFrom.address : '',
          to: rcptTo.map(({ address }) => address),
          secure: session.secure === true,
          user: session.user,
          text: Buffer.concat(chunks).toString('utf8'),
        });
        done();
      });
    },
    ...options,
  });
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', () => resolve()));
  const address = server.server.address();
  return { port: typeof address === 'object' && address ? address.port : 0, mails };
}

test('a name from a container adds no header', async () => {
  const { port, mails } = await start();
  const title = 'shop: x\r\nBcc: evil@example.org\r\n\r\nnot the body';
  await emailTo(`smtp://127.0.0.1:${port}?tls=none`).send({ ...message, title }, signal);
  const [head] = (mails[0]?.text ?? '').split('\r\n\r\n');
  expect(head).not.toMatch(/^Bcc:/im);
  expect(mails[0]?.to).toEqual(['ops@example.org']);
});

const emailTo = (server: string, to = ['ops@example.org']) =>
  createEmail({ server, from: 'lifeboat@example.org', to, pauseMs: 1 });

/** Returns the decoded text of a mail. */
function plain(text: string): string {
  const body = text.slice(text.indexOf('\r\n\r\n') + 4);
  const bytes = body
    .replace(/=\r\n/g, '')
    .replace(/=([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

describe('e-mail', () => {
  test('reaches all addresses, says it was made by a program, and carries the words of the message', async () => {
    const { port, mails } = await start({ disabledCommands: ['STARTTLS', 'AUTH'] });
    const to = ['ops@example.org', 'boss@example.org'];
    const said = await emailTo(`smtp://127.0.0.1:${port}?tls=none`, to).send(message, signal);
    expect(said).toBe(`127.0.0.1:${port} accepted the message for 2 addresses`);
    expect(mails).toMatchObject([{ from: 'lifeboat@example.org', to }]);
    expect(mails[0]?.text).toContain('Subject: shop: backup failed');
    expect(mails[0]?.text).toContain('Auto-Submitted: auto-generated');
    const text = plain(mails[0]?.text ?? '');
    expect(text).toContain('größe.postgres failed: dump ended early');
    expect(text).toContain('safe: the last good snapshot is 24h old');
    expect(text).toContain('next: ');
  });

  test('sends no password without TLS, unless the URL allows that', async () => {
    const { port, mails } = await start({ disabledCommands: ['STARTTLS'], allowInsecureAuth: true });
    const url = `smtp://ops:p%40ss%20word@127.0.0.1:${port}`;
    const error = await emailTo(url)
      .send(message, signal)
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'NOTIFY_FAILED', hint: expect.stringContaining('tls=optional') });
    expect(mails).toEqual([]);
    await emailTo(`${url}?tls=optional`).send(message, signal);
    expect(mails).toMatchObject([{ user: 'ops', secure: false }]);
  });

  test('a wrong password is not tried again, and no error repeats it', async () => {
    const { port } = await start({ disabledCommands: ['STARTTLS'], allowInsecureAuth: true });
    const url = `smtp://ops:wr%C3%B6ng@127.0.0.1:${port}?tls=optional`;
    const error = await emailTo(url)
      .send(message, signal)
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'NOTIFY_FAILED', hint: expect.stringContaining('LIFEBOAT_SMTP_URL') });
    expect(String(error)).not.toMatch(/wröng|wr%C3/);
  });

  test('uses TLS, and refuses a server that it does not know', async () => {
    const { port, mails } = await start();
    const error = await emailTo(`smtp://127.0.0.1:${port}`)
      .send(message, signal)
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'NOTIFY_FAILED', message: expect.stringMatching(/certificate|self-signed/) });
    expect(mails).toEqual([]);
  });

  test('a temporary refusal is tried again, a lasting one is not', async () => {
    const codes = [451, 250, 550];
    let asked = 0;
    const { port, mails } = await start({
      disabledCommands: ['STARTTLS', 'AUTH'],
      onMailFrom(_address, _session, done) {
        const code = codes[asked++] ?? 550;
        if (code === 250) done();
        else done(Object.assign(new Error('not now'), { responseCode: code }));
      },
    });
    const email = emailTo(`smtp://127.0.0.1:${port}?tls=none`);
    await email.send(message, signal);
    expect(mails).toHaveLength(1);
    await expect(email.send(message, signal)).rejects.toMatchObject({ code: 'NOTIFY_FAILED' });
    expect(asked).toBe(3);
  });

  test('ends when its time is up, although the server is silent', async () => {
    const { port } = await start({ disabledCommands: ['STARTTLS', 'AUTH'], onMailFrom: () => undefined });
    const sent = emailTo(`smtp://127.0.0.1:${port}?tls=none`).send(message, AbortSignal.timeout(200));
    await expect(sent).rejects.toMatchObject({ message: expect.stringContaining('no answer in time') });
  });
});
