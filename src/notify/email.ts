import { setTimeout as delay } from 'node:timers/promises';
import { unlessAborted } from '../base/abort.ts';
import { LifeboatError } from '../base/errors.ts';
import { redact, registerSecret } from '../base/redact.ts';
import { oneLine, plural } from '../report/format.ts';
import type { Channel } from './channel.ts';
import { noteFailure } from './failure.ts';
import { characters, cut, fitBody } from './fit.ts';
import type { Message } from './message.ts';

/** Nobody reads more, in characters. */
const MAX_TEXT = 100_000;
const MAX_SUBJECT = 200;
/** Attempts of one message, and the pause between them, milliseconds. */
const ATTEMPTS = 3;
const PAUSE_MS = 2_000;
/** Limit for a connection, for the greeting, and for silence of the server, milliseconds. */
const SERVER_MS = 10_000;

/** Options of {@link createEmail}. `server`: as `parseSmtpUrl` accepts it. */
interface EmailOptions {
  server: string;
  from: string;
  to: readonly string[];
  pauseMs?: number;
  /** trusts a server with another certificate, for tests */
  ca?: string;
}

/**
 * Sends messages by e-mail through an SMTP server. A password is sent only over TLS, unless the URL says otherwise. A
 * temporary refusal (4xx, RFC 5321, 4.2.1) is tried again.
 */
export function createEmail({ server, from, to, pauseMs = PAUSE_MS, ca }: EmailOptions): Channel {
  const url = new URL(server);
  const [user, pass] = [decodeURIComponent(url.username), decodeURIComponent(url.password)];
  for (const secret of [server, pass, url.password]) if (secret !== '') registerSecret(secret);
  const tls = url.searchParams.get('tls');
  const options = {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port) || (url.protocol === 'smtps:' ? 465 : 587),
    secure: url.protocol === 'smtps:',
    requireTLS: url.protocol === 'smtp:' && tls === null,
    ignoreTLS: tls === 'none',
    ...(user === '' ? {} : { auth: { user, pass } }),
    ...(ca === undefined ? {} : { tls: { ca } }),
    connectionTimeout: SERVER_MS,
    greetingTimeout: SERVER_MS,
    socketTimeout: SERVER_MS,
  };

  async function attempt(message: Message, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    // Loaded on use, because few agents send e-mail.
    const { createTransport } = await import('nodemailer');
    // A connection that nobody waits for any more ends by its own limits.
    const sent = createTransport(options).sendMail({
      from: { name: 'Lifeboat', address: from },
      to: [...to],
      subject: cut(oneLine(message.title), MAX_SUBJECT),
      text: [message.title, '', ...fitBody(message, characters(MAX_TEXT))].join('\n'),
      // Keeps other programs from answering it (RFC 3834).
      headers: { 'Auto-Submitted': 'auto-generated' },
      disableFileAccess: true,
      disableUrlAccess: true,
    });
    await unlessAborted(sent, signal);
  }

  return {
    name: 'email',
    async send(message, signal) {
      for (let tries = 1; ; tries++) {
        try {
          await attempt(message, signal);
          return `${url.host} accepted the message for ${to.length === 1 ? to[0] : plural(to.length, 'address', 'addresses')}`;
        } catch (error) {
          if (tries >= ATTEMPTS || signal.aborted || !mayPass(error)) throw refusal(error, url, signal);
          await delay(pauseMs * tries, undefined, { signal }).catch(() => undefined);
        }
      }
    },
  };
}

/** Returns whether the failure is a temporary refusal, or no answer. */
function mayPass(error: unknown): boolean {
  const { responseCode, code } = facts(error);
  if (code === 'EAUTH' || code === 'ETLS') return false;
  return responseCode === undefined || (responseCode >= 400 && responseCode < 500);
}

function facts(error: unknown): { responseCode?: number; code?: string } {
  if (!(error instanceof Error)) return {};
  const responseCode =
    'responseCode' in error && typeof error.responseCode === 'number' ? error.responseCode : undefined;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  return { ...(responseCode === undefined ? {} : { responseCode }), ...(code === undefined ? {} : { code }) };
}

function refusal(error: unknown, { host }: URL, signal: AbortSignal): LifeboatError {
  const { code } = facts(error);
  const words = error instanceof Error ? oneLine(redact(error.message)).slice(0, 300) : 'unknown error';
  const why = signal.aborted ? 'no answer in time' : words;
  const hint =
    code === 'EAUTH'
      ? { hint: 'Check the user and the password in LIFEBOAT_SMTP_URL.' }
      : code === 'ETLS'
        ? {
            hint: 'If the server has no TLS, add ?tls=optional to LIFEBOAT_SMTP_URL. The password is then sent in clear text.',
          }
        : {};
  const failed = new LifeboatError('NOTIFY_FAILED', `no mail could be sent through ${host}: ${why}`, hint);
  // A wrong password or a missing certificate is about the server, not about the message.
  return noteFailure(failed, { isRefused: !mayPass(error) && code !== 'EAUTH' && code !== 'ETLS' });
}
