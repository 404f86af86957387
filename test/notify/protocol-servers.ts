import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { z } from 'zod';

/** Servers that accept and refuse requests as the services do, by their documentation. */

/** One accepted request. */
export interface Accepted {
  path: string;
  headers: IncomingHttpHeaders;
  body: Record<string, unknown>;
}

export interface ProtocolServer {
  url: string;
  accepted: Accepted[];
  /** bodies of the requests that the service refused, with the reason */
  refused: string[];
  /** Refuses the next request as a service does that has too many. */
  limitOnce(): void;
  close(): Promise<void>;
}

interface Protocol {
  path: RegExp;
  body: z.ZodType<Record<string, unknown>>;
  /** the answer to a good request */
  answer: { status: number; body: unknown };
  /** the answer to a request too many; `seconds` to wait */
  tooMany(seconds: number): { headers?: Record<string, string>; body: unknown };
}

const units = (max: number) => z.string().min(1).max(max);

export const PROTOCOLS = {
  /** https://docs.discord.com/developers/resources/webhook#execute-webhook */
  discord: {
    path: /^\/api\/webhooks\/\d+\/[\w-]+\?wait=true$/,
    body: z.strictObject({
      username: units(80),
      embeds: z
        .array(
          z.strictObject({
            title: units(256),
            description: z.string().max(4_096),
            color: z.int().min(0).max(0xffffff),
            timestamp: z.iso.datetime(),
          }),
        )
        .max(10),
      allowed_mentions: z.strictObject({ parse: z.array(z.enum(['roles', 'users', 'everyone'])) }),
    }),
    answer: { status: 200, body: { id: '1' } },
    tooMany: (seconds) => ({ body: { message: 'You are being rate limited.', retry_after: seconds, global: false } }),
  },
  /** https://core.telegram.org/bots/api#sendmessage */
  telegram: {
    path: /^\/bot\d+:[\w-]{20,}\/sendMessage$/,
    body: z.strictObject({
      chat_id: z.union([z.string(), z.int()]),
      text: units(4_096),
      disable_notification: z.boolean(),
      link_preview_options: z.strictObject({ is_disabled: z.boolean() }),
    }),
    answer: { status: 200, body: { ok: true, result: {} } },
    tooMany: (seconds) => ({
      body: { ok: false, error_code: 429, description: 'Too Many Requests', parameters: { retry_after: seconds } },
    }),
  },
  /** https://docs.ntfy.sh/publish/#publish-as-json */
  ntfy: {
    path: /^\/$/,
    body: z.strictObject({
      topic: z.string().regex(/^[-_A-Za-z0-9]{1,64}$/),
      title: z.string(),
      message: z.string().refine((text) => Buffer.byteLength(text) <= 4_096),
      priority: z.int().min(1).max(5),
    }),
    answer: { status: 200, body: { id: '1', event: 'message' } },
    tooMany: () => ({ body: { code: 42901, http: 429, error: 'limit reached: too many requests' } }),
  },
  /** https://developer.pagerduty.com/docs/events-api-v2-overview */
  pagerduty: {
    path: /^\/v2\/enqueue$/,
    body: z.discriminatedUnion('event_action', [
      z.strictObject({
        routing_key: z.string().length(32),
        client: z.string(),
        event_action: z.literal('trigger'),
        dedup_key: units(255),
        payload: z.strictObject({
          summary: units(1_024),
          source: units(255),
          severity: z.enum(['critical', 'error', 'warning', 'info']),
          timestamp: z.iso.datetime(),
          component: z.string(),
          class: z.string(),
          custom_details: z.record(z.string(), z.unknown()),
        }),
      }),
      z.strictObject({
        routing_key: z.string().length(32),
        client: z.string(),
        event_action: z.literal('resolve'),
        dedup_key: units(255),
      }),
    ]),
    answer: { status: 202, body: { status: 'success', message: 'Event processed' } },
    tooMany: (seconds) => ({ headers: { 'Retry-After': String(seconds) }, body: { status: 'throttle exceeded' } }),
  },
} as const satisfies Record<string, Protocol>;

/** Starts a server that speaks one of {@link PROTOCOLS}. */
export async function startProtocolServer(name: keyof typeof PROTOCOLS): Promise<ProtocolServer> {
  const protocol: Protocol = PROTOCOLS[name];
  const accepted: Accepted[] = [];
  const refused: string[] = [];
  let isLimited = false;
  const server = createServer(async (request, response) => {
    const text = Buffer.concat(await request.toArray()).toString('utf8');
    const send = (status: number, body: unknown, headers: Record<string, string> = {}) =>
      response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
    if (isLimited) {
      isLimited = false;
      const { body, headers } = protocol.tooMany(0.05);
      return send(429, body, headers);
    }
    const parsed = protocol.body.safeParse(parseJson(text));
    const isRight = protocol.path.test(request.url ?? '') && request.method === 'POST';
    if (!isRight || !parsed.success) {
      refused.push(`${request.method} ${request.url}: ${parsed.error?.message}: ${text}`);
      return send(isRight ? 400 : 404, { error: 'refused' });
    }
    accepted.push({ path: request.url ?? '', headers: request.headers, body: parsed.data });
    return send(protocol.answer.status, protocol.answer.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    accepted,
    refused,
    limitOnce() {
      isLimited = true;
    },
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
