// make load: a k6 script against the OpenAI endpoint (k6 knows no tokens; nereid load and nereid bench serving do).
//   URL=http://127.0.0.1:8000 VUS=16 DURATION=30s k6 run examples/k6/load.js
import { check } from 'k6';
import http from 'k6/http';
import { Counter, Trend } from 'k6/metrics';

const url = __ENV.URL || 'http://127.0.0.1:8000';
const outputTokens = new Counter('output_tokens');
const perToken = new Trend('ms_per_output_token', true);

export const options = {
  vus: Number(__ENV.VUS || 16),
  duration: __ENV.DURATION || '30s',
  thresholds: { checks: ['rate>0.99'] },
};

export default function () {
  const body = JSON.stringify({
    messages: [{ role: 'user', content: __ENV.PROMPT || 'What is a lighthouse?' }],
    max_tokens: Number(__ENV.MAX_TOKENS || 64),
  });
  const response = http.post(`${url}/v1/chat/completions`, body, {
    headers: { 'content-type': 'application/json' },
    timeout: '120s',
  });
  if (!check(response, { 'status is 200': ({ status }) => status === 200 })) return;
  const tokens = response.json('usage.completion_tokens');
  outputTokens.add(tokens);
  if (tokens > 0) perToken.add(response.timings.duration / tokens);
}
