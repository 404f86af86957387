import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

/** A received request. */
export interface ReceivedRequest {
  method: string;
  /** without the query */
  path: string;
  query: Record<string, string>;
  headers: Record<string, string>;
  body: string;
  /** milliseconds since 1970 */
  at: number;
}

/** The response to one request; default 200 `OK`. */
export interface Behaviour {
  status?: number;
  /** for example `Ping-Body-Limit` or `Retry-After` */
  headers?: Record<string, string>;
  body?: string;
  /** wait before responding, milliseconds */
  delayMs?: number;
  /** send the body in pieces of one byte with this pause between them, milliseconds */
  slowMs?: number;
  /** never respond */
  hang?: boolean;
  /** cut the connection without a response */
  reset?: boolean;
}

/** A running receiver. */
export interface Receiver {
  /** `http://127.0.0.1:40123`, without a trailing slash */
  url: string;
  port: number;
  /** all requests so far, in order */
  requests: ReceivedRequest[];
  /**
   * Sets the responses to the next requests, one each. The last one, or a single one, applies to all further requests.
   */
  behave(behaviour: Behaviour | Behaviour[]): void;
  close(): Promise<void>;
}

/**
 * Starts an HTTP server that records requests and responds as configured. It stands in for healthchecks.io, Slack and
 * webhooks. `GET /_requests` returns the record as JSON, and `PUT /_behave` takes a {@link Behaviour} or a list, for a
 * receiver in another process. `log` gets one readable line per request.
 */
export async function startReceiver(
  options: { port?: number; host?: string; log?: (line: string) => void } = {},
): Promise<Receiver> {
  const requests: ReceivedRequest[] = [];
  let script: Behaviour[] = [{}];
  const behave = (next: Behaviour | Behaviour[]) => {
    script = Array.isArray(next) ? [...next] : [next];
  };

  const server = createServer((request, response) => {
    void serve(request, response).catch(() => response.destroy());
  });

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const received = await receive(request);
    if (received.path === '/_requests') {
      response.setHeader('content-type', 'application/json').end(JSON.stringify(requests));
    } else if (received.path === '/_behave') {
      behave(JSON.parse(received.body) as Behaviour | Behaviour[]);
      response.end('OK');
    } else {
      requests.push(received);
      const behaviour = (script.length > 1 ? script.shift() : script[0]) ?? {};
      options.log?.(describe(received, behaviour));
      await answer(response, behaviour);
    }
  }

  const { promise: listening, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject).listen(options.port ?? 0, options.host ?? '127.0.0.1', resolve);
  await listening;
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${options.host ?? '127.0.0.1'}:${port}`,
    port,
    requests,
    behave,
    async close() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

async function receive(request: IncomingMessage): Promise<ReceivedRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const url = new URL(request.url ?? '/', 'http://receiver');
  return {
    method: request.method ?? '',
    path: url.pathname,
    query: Object.fromEntries(url.searchParams),
    headers: Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, String(value)])),
    body: Buffer.concat(chunks).toString('utf8'),
    at: Date.now(),
  };
}

async function answer(response: ServerResponse, behaviour: Behaviour): Promise<void> {
  if (behaviour.delayMs !== undefined) await delay(behaviour.delayMs);
  if (behaviour.hang) return;
  if (behaviour.reset) {
    response.socket?.resetAndDestroy();
    return;
  }
  response.writeHead(behaviour.status ?? 200, { 'content-type': 'text/plain', ...behaviour.headers });
  const body = behaviour.body ?? 'OK';
  if (behaviour.slowMs !== undefined) {
    for (const char of body) {
      if (response.destroyed) return;
      response.write(char);
      await delay(behaviour.slowMs);
    }
    response.end();
  } else {
    response.end(body);
  }
}

/** `03:00:12  POST /slack  shop: backup failed · …`: time, request, and the first meaningful line. */
function describe(request: ReceivedRequest, behaviour: Behaviour): string {
  const time = new Date(request.at).toISOString().slice(11, 19);
  const odd = behaviour.hang ? '  (hangs)' : behaviour.reset ? '  (reset)' : '';
  const status = behaviour.status === undefined || behaviour.status === 200 ? '' : `  (answered ${behaviour.status})`;
  return `${time}  ${request.method} ${request.path}${odd}${status}  ${gist(request.body)}`.trimEnd();
}

function gist(body: string): string {
  try {
    const message: unknown = JSON.parse(body);
    if (typeof message === 'object' && message !== null && 'text' in message) return String(message.text).slice(0, 200);
  } catch {
    // plain text
  }
  return (body.split('\n')[0] ?? '').slice(0, 200);
}

// To run it as a program: `node receiver.ts [port]`. Listens on all addresses, default port 8080.
if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const port = Number(process.argv[2] ?? process.env.PORT ?? 8080);
  const receiver = await startReceiver({ port, host: '0.0.0.0', log: (line) => console.log(line) });
  console.log(`receiver listens on port ${receiver.port}`);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void receiver.close());
}
