import { createHash } from 'node:crypto';
import type { MiddlewareHandler } from 'hono';
import { SCRIPT } from './page/script.ts';
import { STYLE } from './page/style.ts';

/** The source of an inline style or script for a content security policy (CSP Level 3, section 2.3.1). */
function sourceOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

/** Only our own style and script run, nothing is loaded, and no other site may frame the page or receive a form. */
const POLICY = [
  "default-src 'none'",
  `style-src ${sourceOf(STYLE)}`,
  `script-src ${sourceOf(SCRIPT)}`,
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const HEADERS = {
  'content-security-policy': POLICY,
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'cache-control': 'no-store',
} as const;

/** Sets the security headers of every response, and refuses every method that could change something. */
export const secure: MiddlewareHandler = async (context, next) => {
  if (context.req.method === 'GET' || context.req.method === 'HEAD') await next();
  else context.res = context.text('Lifeboat only answers GET and HEAD.\n', 405, { allow: 'GET, HEAD' });
  for (const [name, value] of Object.entries(HEADERS)) context.res.headers.set(name, value);
};
