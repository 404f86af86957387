import { createServer, request as httpRequest, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';

/** The requests that a proxy allows: paths (without the query) by method. */
export type ProxyRules = Record<string, RegExp>;

/** A running proxy in front of the Docker socket. */
export interface SocketProxy {
  port: number;
  /** `METHOD path` of all requests, in order */
  passed: string[];
  refused: string[];
  close(): Promise<void>;
}

/**
 * Starts a proxy on all addresses that forwards the requests that the rules allow, including upgrades, and answers 403
 * to the rest.
 *
 * @param idleMs cuts a connection that has been idle for this long
 */
export async function startSocketProxy(
  socketPath: string,
  rules: ProxyRules,
  { idleMs = 0 }: { idleMs?: number } = {},
): Promise<SocketProxy> {
  const passed: string[] = [];
  const refused: string[] = [];
  const open = new Set<Duplex>();
  const keep = (stream: Duplex) => {
    open.add(stream);
    stream.on('close', () => open.delete(stream)).on('error', () => stream.destroy());
  };
  const allowed = ({ method = '', url = '' }: IncomingMessage) => {
    const path = url.split('?')[0] ?? '';
    const pass = rules[method]?.test(path) ?? false;
    (pass ? passed : refused).push(`${method} ${path}`);
    return pass;
  };
  const server = createServer((incoming, response) => {
    if (!allowed(incoming)) return void response.writeHead(403).end('{"message":"not allowed"}');
    const { method, url: path, headers } = incoming;
    const onward = httpRequest({ socketPath, method, path, headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    // Sends everything in one write: the engine closes once it has responded, and then even an empty last write would
    // fail.
    void buffer(incoming).then(
      (body) => onward.end(body),
      () => onward.destroy(),
    );
  });
  server.on('upgrade', (incoming: IncomingMessage, socket: Duplex, head: Buffer) => {
    keep(socket);
    if (!allowed(incoming)) return void socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
    const engine: Socket = connect({ path: socketPath, allowHalfOpen: true });
    keep(engine);
    const lines = [`${incoming.method} ${incoming.url} HTTP/1.1`];
    for (let i = 0; i < incoming.rawHeaders.length; i += 2) {
      lines.push(`${incoming.rawHeaders[i]}: ${incoming.rawHeaders[i + 1]}`);
    }
    engine.write(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), head]));
    engine.pipe(socket);
    socket.pipe(engine);
    // If one side is cut, cut the other.
    socket.on('close', () => engine.destroy());
  });
  server.on('connection', (socket: Socket) => {
    if (idleMs > 0) socket.setTimeout(idleMs, () => socket.destroy());
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '0.0.0.0', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    passed,
    refused,
    async close() {
      for (const stream of open) stream.destroy();
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}
