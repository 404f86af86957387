import { createHash, timingSafeEqual } from 'node:crypto';
import type { MiddlewareHandler } from 'hono';
import type { HttpSettings } from '../plan/values/http-settings.ts';

/**
 * Creates the check of credentials: HTTP basic authentication (RFC 7617) with the user and password, or a bearer token
 * (RFC 6750). Either is enough if both are set. Without a password and a token, every request passes.
 *
 * @param settings the credentials to accept
 */
export function createAuth(settings: Pick<HttpSettings, 'user' | 'password' | 'token'>): MiddlewareHandler {
  const { user, password, token } = settings;
  const accepted = [
    ...(password === undefined ? [] : [`basic ${Buffer.from(`${user}:${password}`).toString('base64')}`]),
    ...(token === undefined ? [] : [`bearer ${token}`]),
  ].map(hashOf);
  const challenges = [
    ...(password === undefined ? [] : ['Basic realm="Lifeboat", charset="UTF-8"']),
    ...(token === undefined ? [] : ['Bearer realm="Lifeboat"']),
  ].join(', ');
  return async (context, next) => {
    if (accepted.length === 0 || isAccepted(context.req.header('authorization') ?? '', accepted)) return next();
    return context.text('Lifeboat needs a password or token.\n', 401, { 'www-authenticate': challenges });
  };
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
