import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { errorInfo } from '../base/errors.ts';
import { createRoutes } from './app.ts';
import type { HttpDeps } from './deps.ts';

/** The most connections at a time. */
const MAX_CONNECTIONS = 200;

/** The longest time that a client may take, milliseconds. */
interface Limits {
  /** to send a request */
  requestMs: number;
  /** to take a part of an answer. The longest answers are those that read a large index, and events */
  idleMs: number;
}

const LIMITS: Limits = { requestMs: 15_000, idleMs: 120_000 };

/** A server that answers. */
interface HttpServer {
  port: number;
  /** Ends the server and its open connections. */
  close(): Promise<void>;
}

/**
 * Starts the server of the page, the metrics and the health check, on all addresses of the container.
 *
 * @param deps what it serves
 * @param port the TCP port to listen on; 0 selects any free port
 * @param limits end the connections of slow clients, which would keep others out
 * @returns undefined if the port cannot be used. That is logged, because backups do not need the server
 */
export async function startHttp(deps: HttpDeps, port: number, limits = LIMITS): Promise<HttpServer | undefined> {
  const stop = new AbortController();
  const { requestMs, idleMs } = limits;
  const server = createAdaptorServer({
    fetch: createRoutes(deps, stop.signal).fetch,
    serverOptions: {
      headersTimeout: requestMs,
      requestTimeout: requestMs,
      connectionsCheckingInterval: Math.min(5000, requestMs),
    },
  });
  server.setTimeout(idleMs);
  if ('maxConnections' in server) server.maxConnections = MAX_CONNECTIONS;
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, resolve);
    });
  } catch (error) {
    deps.log.error(`port ${port} cannot be opened, so there is no page and no metrics`, { ...errorInfo(error) });
    return undefined;
  }
  server.on('error', (error) => deps.log.warn('the HTTP server failed', { ...errorInfo(error) }));
  const address: AddressInfo | string | null = server.address();
  const actual = typeof address === 'object' && address !== null ? address.port : port;
  deps.log.info('serving the page and the metrics', { port: actual });
  return {
    port: actual,
    async close() {
      stop.abort();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        if ('closeAllConnections' in server) server.closeAllConnections();
      });
    },
  };
}
