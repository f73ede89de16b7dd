"""Rerank with LangChain's and LlamaIndex's own classes; prints what each returns, as JSON.

Runs with the Python of their environment: ask_with_chains.py URL QUERY, documents as a JSON list on standard input.
"""

import json
import sys

import langchain_community.document_compressors.jina_rerank as jina
from langchain_cohere import CohereRerank
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank as LlamaIndexCohere
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

url, query = sys.argv[1:]
texts = json.load(sys.stdin)
results = {}

documents = [Document(text, metadata={"place": place}) for place, text in enumerate(texts)]
cohere = CohereRerank(cohere_api_key="key", base_url=url, model="default", top_n=3)
results["langchain cohere"] = [
    (item.metadata["place"], item.metadata["relevance_score"]) for item in cohere.compress_documents(documents, query)
]

jina.JINA_API_URL = f"{url}/v1/rerank"
reranker = jina.JinaRerank(jina_api_key="key", model="default", top_n=3)
results["langchain jina"] = [
    (item.metadata["place"], item.metadata["relevance_score"]) for item in reranker.compress_documents(documents, query)
]

for name, postprocessor in (
    ("llamaindex tei", TextEmbeddingInference(base_url=url, top_n=3, auth_token="Bearer key")),
    ("llamaindex cohere", LlamaIndexCohere(api_key="key", base_url=url, model="default", top_n=3)),
):
    nodes = [NodeWithScore(node=TextNode(text=text, id_=str(place))) for place, text in enumerate(texts)]
    ranked = postprocessor.postprocess_nodes(nodes, QueryBundle(query))
    results[name] = [(int(node.node.node_id), node.score) for node in ranked]

json.dump(results, sys.stdout)
