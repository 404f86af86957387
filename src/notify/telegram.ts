import { registerSecret } from '../base/redact.ts';
import type { Channel } from './channel.ts';
import { characters, cut, fitBody } from './fit.ts';
import { createPost, type Post } from './http.ts';

/** Characters of a message: https://core.telegram.org/bots/api#sendmessage */
const MAX_TEXT = 4_096;
const MAX_TITLE = 500;

/** Options of {@link createTelegram}. `base`: the address of the Bot API, without a trailing slash. */
interface TelegramOptions {
  base: string;
  token: string;
  chat: string;
  post?: Post;
}

/** Sends messages to a Telegram chat as plain text, so nothing in it is markup or a mention of a hidden kind. */
export function createTelegram({ base, token, chat, post = createPost() }: TelegramOptions): Channel {
  registerSecret(token);
  const url = new URL(`${base}/bot${token}/sendMessage`);
  return {
    name: 'telegram',
    async send(message, signal) {
      const title = cut(message.title, MAX_TITLE);
      const body = fitBody(message, characters(MAX_TEXT - title.length - 2));
      const quiet = message.level === 'good' || message.level === 'info';
      const request = {
        chat_id: chat,
        text: [title, '', ...body].join('\n').trim(),
        disable_notification: quiet,
        link_preview_options: { is_disabled: true },
      };
      await post({ url, body: JSON.stringify(request), contentType: 'application/json', signal });
      return `${url.host} accepted the message`;
    },
  };
}
