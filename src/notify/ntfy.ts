import { registerSecret } from '../base/redact.ts';
import type { Channel } from './channel.ts';
import { cut, fitBody } from './fit.ts';
import { createPost, decoded, type Post } from './http.ts';
import type { Level } from './message.ts';

/** The server turns a longer message into an attachment, in bytes: https://docs.ntfy.sh/publish/#limitations */
const MAX_BYTES = 4_096;
const MAX_TITLE = 200;

/** 3 is normal, 4 is high: https://docs.ntfy.sh/publish/#message-priority */
const PRIORITIES: Record<Level, number> = { bad: 4, warning: 4, good: 3, info: 2 };

/** Options of {@link createNtfy}. `url`: that of the topic. */
interface NtfyOptions {
  url: URL;
  token?: string | undefined;
  post?: Post;
}

/** Publishes messages to an ntfy topic, as JSON: https://docs.ntfy.sh/publish/#publish-as-json */
export function createNtfy({ url, token, post = createPost() }: NtfyOptions): Channel {
  if (token !== undefined) registerSecret(token);
  const server = new URL(url);
  const parts = url.pathname.split('/').filter(Boolean);
  const topic = decoded(parts.pop() ?? '');
  server.pathname = `/${parts.join('/')}`;
  server.search = '';
  return {
    name: 'ntfy',
    async send(message, signal) {
      const size = (text: string) => Buffer.byteLength(text);
      const body = JSON.stringify({
        topic,
        title: cut(message.title, MAX_TITLE),
        message: fitBody(message, { max: MAX_BYTES, size }).join('\n') || message.title,
        priority: PRIORITIES[message.level],
      });
      const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
      await post({ url: server, body, contentType: 'application/json', headers, signal });
      return `${url.host} accepted the message`;
    },
  };
}
