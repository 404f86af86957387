import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What a route of the stub can do with a request: respond correctly, or as no real engine would. */
export interface Call {
  query: URLSearchParams;
  /** Responds with JSON. */
  json(value: unknown, status?: number): void;
  /** Responds with anything. */
  text(body: string, status?: number): void;
  /** Responds with an upgrade and returns the raw connection. */
  upgrade(): Socket;
  /** The connection of the request, for writing invalid data. */
  socket: Socket;
}

export type Route = (call: Call) => void;

/** An HTTP server on a Unix socket that implements the part of the Engine API that its routes define. */
export interface StubEngine {
  dockerHost: string;
  /** `METHOD /path` → handler; other requests get a 404 with the engine's wording */
  routes: Map<string, Route>;
  /** every request, as `METHOD /path` */
  requests: string[];
  close(): Promise<void>;
}

/** One frame of the engine's multiplexed stream; `length` overrides the length of the payload. */
export function frame(type: number, payload: string | Buffer, length = Buffer.byteLength(payload)): Buffer {
  const header = Buffer.alloc(8);
  header[0] = type;
  header.writeUInt32BE(length, 4);
  return Buffer.concat([header, Buffer.from(payload)]);
}

export async function startStubEngine(): Promise<StubEngine> {
  const directory = await mkdtemp(join(tmpdir(), 'stub-engine-'));
  const path = join(directory, 'docker.sock');
  const routes = new Map<string, Route>();
  const requests: string[] = [];
  const sockets = new Set<Socket>();
  const handle = (request: IncomingMessage, call: (url: URL) => Call) => {
    const url = new URL(request.url ?? '/', 'http://stub');
    const key = `${request.method} ${url.pathname}`;
    requests.push(key);
    const route = routes.get(key);
    if (route) route(call(url));
    else call(url).json({ message: `no such thing: ${url.pathname}` }, 404);
  };
  const server = createServer((request, response) => {
    request.resume();
    handle(request, (url) => plainCall(url, response, request.socket));
  });
  server.on('upgrade', (request: IncomingMessage, socket: Socket) => {
    handle(request, (url) => upgradeCall(url, socket));
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    dockerHost: `unix://${path}`,
    routes,
    requests,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      await rm(directory, { recursive: true });
    },
  };
}

function plainCall(url: URL, response: ServerResponse, socket: Socket): Call {
  const text = (body: string, status = 200) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(body);
  };
  return {
    query: url.searchParams,
    text,
    json: (value, status) => text(JSON.stringify(value), status),
    upgrade() {
      throw new Error('the client did not ask for an upgrade');
    },
    socket,
  };
}

function upgradeCall(url: URL, socket: Socket): Call {
  const text = (body: string, status = 200) => {
    const head = `HTTP/1.1 ${status} Stub\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n`;
    socket.end(head + body);
  };
  return {
    query: url.searchParams,
    text,
    json: (value, status) => text(JSON.stringify(value), status),
    upgrade() {
      socket.write('HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n');
      return socket;
    },
    socket,
  };
}

/** Routes for one exec in container `box`: what its stream does, and the result of each inspection in turn. */
export function stubExec(stub: StubEngine, stream: (socket: Socket) => void, ...states: object[]): void {
  let at = 0;
  stub.routes.set('POST /containers/box/exec', (call) => call.json({ Id: 'e1' }, 201));
  stub.routes.set('POST /exec/e1/start', (call) => stream(call.upgrade()));
  stub.routes.set('GET /exec/e1/json', (call) => {
    call.json({ ContainerID: 'box', ...states[Math.min(at++, states.length - 1)] });
  });
}

/** An engine's description of a running container, with the changes that a test needs. */
export function stubContainer(
  id: string,
  changes: { name?: string; labels?: object; state?: object; mounts?: object[]; networkMode?: string } = {},
): object {
  return {
    Id: id,
    Name: `/${changes.name ?? id}`,
    Image: 'sha256:image',
    State: { Status: 'running', Running: true, Paused: false, ExitCode: 0, OOMKilled: false, ...changes.state },
    Config: { Hostname: id.slice(0, 12), User: '', Labels: changes.labels ?? null, Env: ['A=1=2', 'B'] },
    HostConfig: { NetworkMode: changes.networkMode ?? 'default', AutoRemove: false },
    Mounts: changes.mounts ?? null,
    NetworkSettings: { Networks: { net: { IPAddress: '10.0.0.2', Aliases: null } } },
  };
}
