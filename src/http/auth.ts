import { createHash, timingSafeEqual } from 'node:crypto';
import type { HttpBindings } from '@hono/node-server';
import type { Context, MiddlewareHandler } from 'hono';
import type { Log } from '../base/log.ts';
import type { HttpSettings } from '../plan/values/http-settings.ts';
import { createGuessLimit } from './guess-limit.ts';

/** The credentials that are accepted. */
export type Credentials = Pick<HttpSettings, 'user' | 'password' | 'token'>;

/** Options of {@link createAuth}. */
interface AuthOptions {
  log: Log;
  /** a clock that nobody sets, milliseconds */
  clock?: () => number;
  /** waits so many milliseconds, for tests */
  wait?: (ms: number) => Promise<unknown>;
}

/**
 * Creates the check of credentials: HTTP basic authentication (RFC 7617) with the user and password, or a bearer token
 * (RFC 6750). Either is enough if both are set. Without a password and a token, every request passes. A right token
 * always passes at once. After many wrong passwords from a network, each check of one takes a second, and only if many
 * wait does a request get 429. A network may be a proxy, behind which others know the password.
 *
 * @param settings the credentials to accept
 */
export function createAuth(settings: Credentials, { log, clock, wait }: AuthOptions): MiddlewareHandler {
  const { user, password, token } = settings;
  const tokens = (token === undefined ? [] : [`bearer ${token}`]).map(hashOf);
  const basic = password === undefined ? [] : [`basic ${Buffer.from(`${user}:${password}`).toString('base64')}`];
  const passwords = basic.map(hashOf);
  const challenges = [
    ...(password === undefined ? [] : ['Basic realm="Lifeboat", charset="UTF-8"']),
    ...(token === undefined ? [] : ['Bearer realm="Lifeboat"']),
  ].join(', ');
  const guesses = createGuessLimit({ clock, wait });
  return async (context, next) => {
    if (tokens.length + passwords.length === 0) return next();
    const header = context.req.header('authorization');
    if (header !== undefined) {
      if (isAccepted(header, tokens)) return next();
      const address = addressOf(context);
      if (!(await guesses.turn(address)))
        return context.text('Too many passwords are being checked. Try again in 1 s.\n', 429, { 'retry-after': '1' });
      if (isAccepted(header, passwords)) return next();
      if (guesses.spend(address)) log.warn('many wrong passwords for the page', { address });
    }
    return context.text('Lifeboat needs a password or token.\n', 401, { 'www-authenticate': challenges });
  };
}

/** Endings of names that no stranger can register: RFC 6761, RFC 6762, RFC 8375, and those of home networks. */
const PRIVATE = /^[^.]+$|\.(localhost|local|internal|lan|home|home\.arpa|test)$/;
const ADDRESS = /^\[.*\]$|^\d+\.\d+\.\d+\.\d+$/;

/**
 * Creates the check of the name by which a server without credentials is asked. A page of a stranger can point its own
 * name at this host, and then read the answers (DNS rebinding). With credentials, a browser has none for that name.
 */
export function createNameCheck({ password, token }: Credentials): MiddlewareHandler {
  const isOpen = password === undefined && token === undefined;
  return async (context, next) => {
    const { hostname } = new URL(context.req.url);
    if (!isOpen || ADDRESS.test(hostname) || PRIVATE.test(hostname)) return next();
    return context.text(
      'To use Lifeboat under a public name, set LIFEBOAT_HTTP_PASSWORD or LIFEBOAT_HTTP_TOKEN.\n',
      421,
    );
  };
}

/** Returns the address of the client, or of the proxy in front of the server. */
function addressOf({ env }: Context<{ Bindings: Partial<HttpBindings> }>): string {
  return env?.incoming?.socket.remoteAddress ?? 'unknown';
}

/** Compares hashes, all of them and in constant time, so the time of an answer shows nothing about the credentials. */
function isAccepted(header: string, accepted: readonly Buffer[]): boolean {
  const [, scheme = '', rest = ''] = /^(\S+) +(.*)$/.exec(header) ?? [];
  const given = hashOf(`${scheme.toLowerCase()} ${rest}`);
  return accepted.map((one) => timingSafeEqual(one, given)).includes(true);
}

function hashOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
