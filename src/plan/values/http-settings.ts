import type { Fields, Values } from './fields.ts';
import { integer, matching } from './values.ts';

/** The settings of the page, the metrics and the API. */
export const HTTP_SETTINGS = {
  LIFEBOAT_HTTP_PORT: {
    parse: integer(1, 65_535),
    form: 'port',
    doc: 'port on which Lifeboat serves [the page, the metrics and the health check](monitoring.md). If it is not set, Lifeboat serves nothing',
  },
  LIFEBOAT_HTTP_USER: {
    parse: matching(/^[^:\s]{1,100}$/, 'write a name without spaces and colons'),
    form: 'name',
    doc: 'user name for `LIFEBOAT_HTTP_PASSWORD`',
    default: 'lifeboat',
    needs: ['LIFEBOAT_HTTP_PASSWORD'],
  },
  LIFEBOAT_HTTP_PASSWORD: {
    parse: matching(/^.{8,200}$/, 'make one with `openssl rand -base64 24`'),
    form: 'text',
    doc: 'password for the page, the metrics and the API, of 8 characters or more. Browsers ask for it',
    secret: true,
    needs: ['LIFEBOAT_HTTP_PORT'],
  },
  LIFEBOAT_HTTP_TOKEN: {
    parse: matching(/^[\x21-\x7e]{16,200}$/, 'make one with `openssl rand -hex 24`'),
    form: 'text',
    doc: 'bearer token for the page, the metrics and the API, of 16 characters or more. Programs such as Prometheus send it. If a password is set too, either is enough',
    secret: true,
    needs: ['LIFEBOAT_HTTP_PORT'],
  },
} as const satisfies Fields;

/** The settings of the page, the metrics and the API. */
export interface HttpSettings {
  readonly port: number;
  readonly user: string;
  /** absent: there is no password, and without `token` anybody who reaches the port may read */
  readonly password?: string;
  readonly token?: string;
}

/** Returns the settings of the server, from the values of the table; undefined if no port is set. */
export function httpOf(values: Values<typeof HTTP_SETTINGS>): HttpSettings | undefined {
  const { LIFEBOAT_HTTP_PORT: port, LIFEBOAT_HTTP_USER: user } = values;
  const { LIFEBOAT_HTTP_PASSWORD: password, LIFEBOAT_HTTP_TOKEN: token } = values;
  if (port === undefined) return undefined;
  return { port, user, ...(password === undefined ? {} : { password }), ...(token === undefined ? {} : { token }) };
}
