"""Rerank with infinity's own client; prints what it read, as JSON: the ranking, and the mistake of a bad request.

Runs with the Python of its environment: ask_with_infinity.py URL QUERY, documents as a JSON list on standard input.
"""

import json
import sys

from infinity_client import AuthenticatedClient
from infinity_client.api.default import rerank
from infinity_client.models import RerankInput

url, query = sys.argv[1:]
texts = json.load(sys.stdin)
client = AuthenticatedClient(url, "key", raise_on_unexpected_status=True)
answer = rerank.sync(client=client, body=RerankInput(query, texts, top_n=3))
bad = rerank.sync(client=client, body=RerankInput(query, [*texts, 5]))
(mistake,) = bad.detail
json.dump(
    {"ranked": [(item.index, item.relevance_score) for item in answer.results], "mistake": [mistake.loc, mistake.msg]},
    sys.stdout,
)
